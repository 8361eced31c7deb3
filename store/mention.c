#include "store/mention.h"

#include "store/base/err.h"

static struct key key_of(const struct apply *apply, const struct conv *conv, const char *user,
                         uint64_t seq)
{
    return key_mention(apply->partition, conv->id, span_str(user), seq);
}

static void put(struct apply *apply, struct key key, const Loquat__Record *record)
{
    char value[MENTION_SIZE];
    put_le64(value, record->expires);
    state_put(apply, KV_CONV, key_span(&key), span_of(value, sizeof value));
}

void mention_note(struct apply *apply, const struct conv *conv, uint64_t seq,
                  const Loquat__Record *record)
{
    if (apply->entry_version < ENTRY_VERSION_CHAT)
        return;
    if (record->mention_all)
        put(apply, key_of(apply, conv, "", seq), record);
    for (size_t i = 0; i < record->n_mentions; i++)
        if (record->mentions[i][0] != 0 && strlen(record->mentions[i]) <= USER_MAX)
            put(apply, key_of(apply, conv, record->mentions[i], seq), record);
}

void mention_forget(struct apply *apply, const struct conv *conv, uint64_t seq,
                    const Loquat__Record *record)
{
    struct key key = key_of(apply, conv, "", seq);
    if (record->mention_all)
        state_delete(apply, KV_CONV, key_span(&key));
    for (size_t i = 0; i < record->n_mentions; i++) {
        if (strlen(record->mentions[i]) > USER_MAX)
            continue;
        key = key_of(apply, conv, record->mentions[i], seq);
        state_delete(apply, KV_CONV, key_span(&key));
    }
}

int mention_has(struct apply *apply, const struct conv *conv, struct span user, uint64_t seq)
{
    struct key key = key_mention(apply->partition, conv->id, user, seq);
    return kv_get(apply->kv, KV_CONV, key_span(&key), &apply->value);
}

/* Those in the rows of `row_user`: of the user, or of all. A message names one or the other. */
static int count_rows(struct apply *apply, const struct conv *conv, struct span row_user,
                      uint64_t after, uint64_t now_ms, uint64_t *count)
{
    struct key from = key_mention(apply->partition, conv->id, row_user, after + 1);
    struct key until = key_mention(apply->partition, conv->id, row_user, UINT64_MAX);
    struct kv_iter iter;
    kv_iter_open(&iter, apply->kv, NULL, KV_CONV, key_span(&from), key_span(&until));
    int err = 0;
    for (kv_iter_first(&iter); err == 0 && kv_iter_valid(&iter) && *count < MENTIONS_COUNTED_MAX;
         kv_iter_next(&iter)) {
        struct span value = kv_iter_value(&iter);
        uint64_t expires = value.n == MENTION_SIZE ? get_le64(value.p) : 0;
        err = value.n == MENTION_SIZE ? 0 : ERR_CORRUPT;
        *count += expires == 0 || expires > now_ms;
    }
    if (err == 0)
        err = kv_iter_error(&iter);
    kv_iter_close(&iter);
    return err;
}

int mention_count(struct apply *apply, const struct conv *conv, struct span user, uint64_t after,
                  uint64_t now_ms, uint64_t *count)
{
    *count = 0;
    int err = count_rows(apply, conv, user, after, now_ms, count);
    if (err == 0)
        err = count_rows(apply, conv, (struct span){0}, after, now_ms, count);
    return err;
}
