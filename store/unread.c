#include "store/unread.h"

#include "store/base/err.h"
#include "store/base/record.h"
#include "store/mention.h"

/* Messages behind `after` that were deleted for all. */
static int count_erased(struct apply *apply, const struct conv *conv, uint64_t after,
                        uint64_t *count)
{
    struct key from = key_seq(apply->partition, conv->id, after + 1);
    struct key until = key_seq(apply->partition, conv->id, UINT64_MAX);
    struct kv_iter iter;
    kv_iter_open(&iter, apply->kv, NULL, KV_FOLD, key_span(&from), key_span(&until));
    int err = 0;
    kv_iter_first(&iter);
    for (int i = 0; i < UNREAD_LOOKED_AT_MAX && kv_iter_valid(&iter) && err == 0; i++) {
        struct span value = kv_iter_value(&iter);
        Loquat__Fold *fold =
            loquat__fold__unpack(&apply->arena.allocator, value.n, (const uint8_t *)value.p);
        if (fold == NULL)
            err = ERR_CORRUPT;
        else if (fold->erased)
            (*count)++;
        arena_reset(&apply->arena);
        kv_iter_next(&iter);
    }
    if (err == 0)
        err = kv_iter_error(&iter);
    kv_iter_close(&iter);
    return err;
}

static bool is_expired(const struct record_view *record, uint64_t now_ms)
{
    return record->expires != 0 && record->expires <= now_ms;
}

/* Messages behind `after` that have expired and were not deleted before. */
static int count_expired(struct apply *apply, const struct conv *conv, uint64_t after,
                         uint64_t now_ms, uint64_t *count)
{
    const Loquat__ConvHeader *header = conv->header;
    if (header->expiring_until <= after + 1)
        return 0;
    uint64_t first = header->expiring_from > after ? header->expiring_from : after + 1;
    struct key from = key_seq(apply->partition, conv->id, first);
    struct key until = key_seq(apply->partition, conv->id, header->expiring_until);
    struct kv_iter iter;
    kv_iter_open(&iter, apply->kv, NULL, KV_LOG, key_span(&from), key_span(&until));
    int err = 0;
    kv_iter_first(&iter);
    for (int i = 0; i < UNREAD_LOOKED_AT_MAX && kv_iter_valid(&iter) && err == 0; i++) {
        struct record_view record;
        err = record_view(kv_iter_value(&iter), &record);
        *count += err == 0 && kind_is_message(record.kind) && !record.erased &&
                  is_expired(&record, now_ms);
        kv_iter_next(&iter);
    }
    if (err == 0)
        err = kv_iter_error(&iter);
    kv_iter_close(&iter);
    return err;
}

/* One that the member has hidden: whether it would count, and whether it names the member. */
static int look_at_hidden(struct apply *apply, const struct conv *conv, uint64_t seq,
                          struct span user, uint64_t now_ms, uint64_t *count, uint64_t *mentions)
{
    struct key key = key_seq(apply->partition, conv->id, seq);
    struct record_view record;
    int err = kv_get(apply->kv, KV_LOG, key_span(&key), &apply->value);
    if (err == 0)
        err = record_view(buf_span(&apply->value), &record);
    if (err != 0)
        return err == ERR_NOT_FOUND ? 0 : err;
    if (record.erased || is_expired(&record, now_ms))
        return 0;
    (*count)++;
    err = mention_has(apply, conv, user, seq);
    if (err == ERR_NOT_FOUND)
        err = mention_has(apply, conv, (struct span){0}, seq);
    *mentions += err == 0;
    return err == ERR_NOT_FOUND ? 0 : err;
}

static int count_hidden(struct apply *apply, const struct conv *conv, struct span user,
                        uint64_t after, uint64_t now_ms, uint64_t *count, uint64_t *mentions)
{
    struct key from = key_hidden(apply->partition, conv->id, user, after + 1);
    struct key until = key_hidden(apply->partition, conv->id, user, UINT64_MAX);
    struct kv_iter iter;
    int err = 0;
    kv_iter_open(&iter, apply->kv, NULL, KV_CONV, key_span(&from), key_span(&until));
    for (kv_iter_first(&iter); err == 0 && kv_iter_valid(&iter); kv_iter_next(&iter)) {
        struct span key = kv_iter_key(&iter);
        err =
            look_at_hidden(apply, conv, get_be64(key.p + key.n - 8), user, now_ms, count, mentions);
    }
    if (err == 0)
        err = kv_iter_error(&iter);
    kv_iter_close(&iter);
    return err;
}

int unread_count(struct apply *apply, const struct conv *conv, const struct member *member,
                 uint64_t now_ms, uint64_t *unread, uint64_t *mentions)
{
    const Loquat__ConvHeader *header = conv->header;
    const Loquat__Member *row = member->row;
    struct span user = span_str(row->user);
    uint64_t floor = header->floor > 0 ? header->floor : 1;
    uint64_t read_n = row->read_n > header->expired ? row->read_n : header->expired;
    uint64_t after = row->read + 1 > floor ? row->read : floor - 1;
    uint64_t gone = 0, hidden_mentions = 0;
    *unread = *mentions = 0;
    if (conv->n <= read_n)
        return 0;
    int err = count_erased(apply, conv, after, &gone);
    if (err == 0)
        err = count_expired(apply, conv, after, now_ms, &gone);
    if (err == 0 && row->hidden > 0)
        err = count_hidden(apply, conv, user, after, now_ms, &gone, &hidden_mentions);
    *unread = conv->n > read_n + gone ? conv->n - read_n - gone : 0;
    if (err == 0 && *unread > 0)
        err = mention_count(apply, conv, user, after, now_ms, mentions);
    *mentions -= *mentions < hidden_mentions ? *mentions : hidden_mentions;
    return err;
}
