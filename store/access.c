#include "store/access.h"

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/hidden.h"
#include "store/key.h"
#include "store/reactions.h"

int access_find(struct access *access, const struct kv_view *view, uint32_t partition,
                const char *conv, const char *user, bool all, struct arena *arena, struct buf *room)
{
    *access = (struct access){.view = view,
                              .partition = partition,
                              .id = conv_id_of(span_str(conv)),
                              .user = span_str(user),
                              .since = 1};
    struct key key = key_header(partition, access->id);
    int err = kv_view_get(view, KV_CONV, key_span(&key), room);
    if (err != 0)
        return err;
    const Loquat__ConvHeader *header =
        loquat__conv_header__unpack(&arena->allocator, room->n, (const uint8_t *)room->p);
    if (header == NULL)
        return ERR_CORRUPT;
    if (strcmp(header->id, conv) != 0)
        return ERR_NOT_FOUND;
    access->header = header;
    access->floor = header->floor > 0 ? header->floor : 1;
    if (all)
        return 0;
    key = key_member(partition, access->id, access->user);
    err = kv_view_get(view, KV_CONV, key_span(&key), room);
    if (err != 0)
        return err;
    const Loquat__Member *member =
        loquat__member__unpack(&arena->allocator, room->n, (const uint8_t *)room->p);
    if (member == NULL)
        return ERR_CORRUPT;
    if (member->role == LOQUAT__ROLE__ROLE_NONE)
        return ERR_NOT_FOUND;
    if (header->history_joined)
        access->since = member->joined_seq;
    access->hides = member->hidden > 0;
    return 0;
}

int access_message(const struct access *access, uint64_t seq, uint64_t now_ms, struct buf *row,
                   struct record_view *record)
{
    if (seq < access->floor || seq < access->since)
        return ERR_NOT_FOUND;
    struct key key = key_seq(access->partition, access->id, seq);
    int err = kv_view_get(access->view, KV_LOG, key_span(&key), row);
    if (err == 0)
        err = record_view(buf_span(row), record);
    if (err != 0)
        return err;
    bool hidden =
        !kind_is_message(record->kind) || record_hole(record, now_ms) != LOQUAT__HOLE__HOLE_NONE;
    if (!hidden && access->hides)
        err = hidden_has(access->view->kv, access->view, access->partition, access->id,
                         access->user, seq, &hidden);
    return err == 0 && hidden ? ERR_NOT_FOUND : err;
}

static int give_reactions(const struct access *access, uint64_t seq, const Loquat__Fold *fold,
                          struct arena *arena, struct buf *room, Loquat__Item *item)
{
    room->n = 0;
    if (fold->n_reactions > 0 && access->user.n > 0) {
        struct key key = key_reactions(access->partition, access->id, seq, access->user);
        int err = kv_view_get(access->view, KV_CONV, key_span(&key), room);
        if (err == ERR_NOT_FOUND)
            room->n = 0;
        else if (err != 0)
            return err;
    }
    return reactions_give(item, fold, buf_span(room), arena);
}

int access_fold(const struct access *access, uint64_t seq, struct span value, struct arena *arena,
                struct buf *room, Loquat__Item *item)
{
    Loquat__Fold *fold = loquat__fold__unpack(&arena->allocator, value.n, (const uint8_t *)value.p);
    if (fold == NULL)
        return ERR_CORRUPT;
    item->edited = fold->edited;
    item->body = fold->body;
    item->replies = fold->replies;
    item->pinned = fold->pinned;
    return give_reactions(access, seq, fold, arena, room, item);
}
