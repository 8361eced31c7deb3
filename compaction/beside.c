#include "compaction/beside.h"

#include "store/key.h"

enum { USER_TAIL = 9 }; /* bytes behind the user: 0, sequence */

/* What stands there about messages, in key order. */
static const struct {
    int tag;
    bool by_user; /* user, then sequence; else sequence first */
} TAGS[] = {
    {KEY_TAG_REACTIONS, false}, {KEY_TAG_MENTIONS, true}, {KEY_TAG_HIDDEN, true},
    {KEY_TAG_THREAD, false},    {KEY_TAG_ACTIVE, false},  {KEY_TAG_PLACE, true},
};

struct walk {
    uint32_t partition;
    struct conv_id id;
    uint64_t floor;
    int (*each)(void *arg, struct span key, struct span value);
    void *arg;
};

static struct key tag_key(const struct walk *walk, int tag)
{
    struct key key = key_conv(walk->partition, walk->id);
    key.p[key.n++] = (char)tag;
    return key;
}

/* Rows that begin with a sequence: of what lies below the floor. */
static int by_sequence(const struct walk *walk, struct kv *kv, const struct kv_view *view, int tag)
{
    struct key from = tag_key(walk, tag), until = from;
    put_be64(until.p + until.n, walk->floor);
    until.n += 8;
    struct kv_iter iter;
    int err = 0;
    kv_iter_open(&iter, kv, view, KV_CONV, key_span(&from), key_span(&until));
    for (kv_iter_first(&iter); err == 0 && kv_iter_valid(&iter); kv_iter_next(&iter))
        err = walk->each(walk->arg, kv_iter_key(&iter), kv_iter_value(&iter));
    if (err == 0)
        err = kv_iter_error(&iter);
    kv_iter_close(&iter);
    return err;
}

int beside_reactions(struct kv *kv, const struct kv_view *view, uint32_t partition,
                     struct conv_id id, uint64_t seq, bool *some)
{
    struct key from = key_reactions(partition, id, seq, (struct span){0});
    struct key until = key_reactions(partition, id, seq + 1, (struct span){0});
    struct kv_iter iter;
    kv_iter_open(&iter, kv, view, KV_CONV, key_span(&from), key_span(&until));
    kv_iter_first(&iter);
    *some = kv_iter_valid(&iter);
    int err = *some ? 0 : kv_iter_error(&iter);
    kv_iter_close(&iter);
    return err;
}

/* By user, then by sequence: behind the last one of a user that lies below, the next user. */
static int by_user(const struct walk *walk, struct kv *kv, const struct kv_view *view, int tag)
{
    struct key from = tag_key(walk, tag), until = tag_key(walk, tag + 1);
    struct kv_iter iter;
    int err = 0;
    kv_iter_open(&iter, kv, view, KV_CONV, key_span(&from), key_span(&until));
    kv_iter_first(&iter);
    while (err == 0 && kv_iter_valid(&iter)) {
        struct span key = kv_iter_key(&iter);
        if (key.n < from.n + USER_TAIL || key.n > KEY_MAX)
            break; /* no key of ours: `verify` says so */
        if (get_be64(key.p + key.n - 8) < walk->floor) {
            err = walk->each(walk->arg, key, kv_iter_value(&iter));
            kv_iter_next(&iter);
            continue;
        }
        struct span user = span_of(key.p + from.n, key.n - from.n - USER_TAIL);
        struct key last = key_user_seq(walk->partition, walk->id, (char)tag, user, UINT64_MAX);
        kv_iter_seek(&iter, key_span(&last));
    }
    if (err == 0)
        err = kv_iter_error(&iter);
    kv_iter_close(&iter);
    return err;
}

int beside_below(struct kv *kv, const struct kv_view *view, uint32_t partition, struct conv_id id,
                 uint64_t floor, int (*each)(void *arg, struct span key, struct span value),
                 void *arg)
{
    struct walk walk = {partition, id, floor, each, arg};
    int err = 0;
    for (size_t i = 0; err == 0 && i < sizeof TAGS / sizeof *TAGS; i++)
        err = TAGS[i].by_user ? by_user(&walk, kv, view, TAGS[i].tag)
                              : by_sequence(&walk, kv, view, TAGS[i].tag);
    return err;
}
