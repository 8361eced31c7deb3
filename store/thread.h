/* store/thread.h: threads of a conversation: which messages belong to which, which has the newest
 * one, and how far each user has read. Of entries of ENTRY_VERSION_SOCIAL on.
 * Thread: the one that applies. Errors: of kv. */
#ifndef LOQUAT_STORE_THREAD_H
#define LOQUAT_STORE_THREAD_H

#include "store/state.h"

enum { THREAD_COUNTED_MAX = 1000 }; /* unread: as many or more */

/* A message of the thread of `root`, whose fold the caller saves. */
void thread_note(struct apply *apply, const struct conv *conv, uint64_t root, Loquat__Fold *fold,
                 uint64_t seq, uint64_t expires);
void thread_forget(struct apply *apply, const struct conv *conv, uint64_t root, uint64_t seq);
/* Moves the user's place forward; *moved: it was before. */
int thread_read_to(struct apply *apply, const struct conv *conv, struct span user, uint64_t root,
                   uint64_t seq, bool *moved);
/* Between batches: what `member` sees of the threads whose newest message is below `from` (0: all),
 * newest first, into `reply`: at most `max`, and where the next page goes on. */
int thread_list(struct apply *apply, const struct conv *conv, const struct member *member,
                uint64_t from, size_t max, uint64_t now_ms, struct arena *arena,
                Loquat__Reply *reply);

#endif
