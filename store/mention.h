/* store/mention.h: who is named in which message, by user and sequence: so that it can be counted
 * what somebody has not read of it (who writes has read it). A row says when the message expires
 * (ms, LE; 0: never). Of entries of ENTRY_VERSION_CHAT on.
 * Thread: the one that applies. Errors: of kv. */
#ifndef LOQUAT_STORE_MENTION_H
#define LOQUAT_STORE_MENTION_H

#include "store/state.h"

enum { MENTIONS_COUNTED_MAX = 1000 }; /* as many or more */

void mention_note(struct apply *apply, const struct conv *conv, uint64_t seq,
                  const Loquat__Record *record);
void mention_forget(struct apply *apply, const struct conv *conv, uint64_t seq,
                    const Loquat__Record *record);
/* 0: the message is noted as one that names the user (empty: all), else ERR_NOT_FOUND. */
int mention_has(struct apply *apply, const struct conv *conv, struct span user, uint64_t seq);
/* Those of the user behind the sequence `after` that still can be seen. */
int mention_count(struct apply *apply, const struct conv *conv, struct span user, uint64_t after,
                  uint64_t now_ms, uint64_t *count);

#endif
