#include "compaction/beside.h"

#include "store/key.h"

enum { MENTION_TAIL = 9 }; /* bytes behind the user: 0, sequence */

struct walk {
    uint32_t partition;
    struct conv_id id;
    uint64_t floor;
    int (*each)(void *arg, struct span key, struct span value);
    void *arg;
};

static int reactions(const struct walk *walk, struct kv *kv, const struct kv_view *view)
{
    struct key from = key_reactions(walk->partition, walk->id, 0, (struct span){0});
    struct key until = key_reactions(walk->partition, walk->id, walk->floor, (struct span){0});
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
static int mentions(const struct walk *walk, struct kv *kv, const struct kv_view *view)
{
    struct key from = key_conv(walk->partition, walk->id), until = from;
    from.p[from.n++] = KEY_TAG_MENTIONS;
    until.p[until.n++] = KEY_TAG_MENTIONS + 1;
    struct kv_iter iter;
    int err = 0;
    kv_iter_open(&iter, kv, view, KV_CONV, key_span(&from), key_span(&until));
    kv_iter_first(&iter);
    while (err == 0 && kv_iter_valid(&iter)) {
        struct span key = kv_iter_key(&iter);
        if (key.n < from.n + MENTION_TAIL || key.n > KEY_MAX)
            break; /* no key of ours: `verify` says so */
        if (get_be64(key.p + key.n - 8) < walk->floor) {
            err = walk->each(walk->arg, key, kv_iter_value(&iter));
            kv_iter_next(&iter);
            continue;
        }
        struct span user = span_of(key.p + from.n, key.n - from.n - MENTION_TAIL);
        struct key last = key_mention(walk->partition, walk->id, user, UINT64_MAX);
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
    int err = reactions(&walk, kv, view);
    return err == 0 ? mentions(&walk, kv, view) : err;
}
