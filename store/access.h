/* store/access.h: what one user sees of one conversation.
 * Thread: any; of one view. Owner: header and what is unpacked live in the caller's arena. */
/* Errors: ERR_NOT_FOUND  no such conversation, or message any more, for this user.
 *         ERR_CORRUPT    a row is damaged. */
#ifndef LOQUAT_STORE_ACCESS_H
#define LOQUAT_STORE_ACCESS_H

#include "store/base/arena.h"
#include "store/base/ids.h"
#include "store/base/record.h"
#include "store/kv.h"

struct access {
    const struct kv_view *view;
    uint32_t partition;
    struct conv_id id;
    struct span user;
    const Loquat__ConvHeader *header;
    uint64_t floor,
        since;  /* both at least 1: sequences that are kept, and that the user may read */
    bool hides; /* the user has deleted some for himself */
};

/* `all`: membership is not asked for. `room` is used on the way. */
int access_find(struct access *access, const struct kv_view *view, uint32_t partition,
                const char *conv, const char *user, bool all, struct arena *arena,
                struct buf *room);
/* The row of a message that can be read now. */
int access_message(const struct access *access, uint64_t seq, uint64_t now_ms, struct buf *row,
                   struct record_view *record);
/* A row of KV_FOLD, as far as a page shows it. */
int access_fold(const struct access *access, uint64_t seq, struct span value, struct arena *arena,
                struct buf *room, Loquat__Item *item);

#endif
