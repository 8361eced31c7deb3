/* store/hidden.h: messages that a user has deleted for himself alone: a row each. A member's row
 * counts them, so that who has none costs nothing.
 * Thread: any. Errors: of kv. */
#ifndef LOQUAT_STORE_HIDDEN_H
#define LOQUAT_STORE_HIDDEN_H

#include "store/base/ids.h"
#include "store/kv.h"

enum { HIDDEN_MAX = 10000 }; /* of one user in one conversation */

/* `view` may be NULL: as it is now. */
int hidden_has(struct kv *kv, const struct kv_view *view, uint32_t partition, struct conv_id id,
               struct span user, uint64_t seq, bool *hidden);

#endif
