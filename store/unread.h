/* store/unread.h: how many messages a member has not read, by ordinals: what was deleted, has
 * expired or was hidden by the member since is taken off. Between batches.
 * Limits: UNREAD_LOOKED_AT_MAX folds, and as many records that may have expired, are looked at for
 *         one conversation: what is above them counts as unread.
 * Thread: the one that applies. Errors: of kv, ERR_CORRUPT. */
#ifndef LOQUAT_STORE_UNREAD_H
#define LOQUAT_STORE_UNREAD_H

#include "store/state.h"

enum { UNREAD_LOOKED_AT_MAX = 4096 };

int unread_count(struct apply *apply, const struct conv *conv, const struct member *member,
                 uint64_t now_ms, uint64_t *unread, uint64_t *mentions);

#endif
