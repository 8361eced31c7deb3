#include "store/thread.h"

#include "store/base/err.h"
#include "store/hidden.h"

void thread_note(struct apply *apply, const struct conv *conv, uint64_t root, Loquat__Fold *fold,
                 uint64_t seq, uint64_t expires)
{
    if (apply->entry_version < ENTRY_VERSION_SOCIAL)
        return;
    char value[8];
    struct key key = key_thread(apply->partition, conv->id, root, seq);
    put_le64(value, expires);
    state_put(apply, KV_CONV, key_span(&key), span_of(value, THREAD_SIZE));
    if (fold->last_reply != 0) {
        key = key_active(apply->partition, conv->id, fold->last_reply);
        state_delete(apply, KV_CONV, key_span(&key));
    }
    key = key_active(apply->partition, conv->id, seq);
    put_le64(value, root);
    state_put(apply, KV_CONV, key_span(&key), span_of(value, ACTIVE_SIZE));
    fold->last_reply = seq;
}

void thread_forget(struct apply *apply, const struct conv *conv, uint64_t root, uint64_t seq)
{
    struct key key = key_thread(apply->partition, conv->id, root, seq);
    state_delete(apply, KV_CONV, key_span(&key));
}

static int place_of(struct apply *apply, const struct conv *conv, struct span user, uint64_t root,
                    uint64_t *seq)
{
    struct key key = key_place(apply->partition, conv->id, user, root);
    int err = state_get(apply, KV_CONV, key_span(&key), &apply->value);
    if (err == 0 && apply->value.n != PLACE_SIZE)
        err = ERR_CORRUPT;
    *seq = err == 0 ? get_le64(apply->value.p) : 0;
    return err == ERR_NOT_FOUND ? 0 : err;
}

int thread_read_to(struct apply *apply, const struct conv *conv, struct span user, uint64_t root,
                   uint64_t seq, bool *moved)
{
    uint64_t before = 0;
    *moved = false;
    if (apply->entry_version < ENTRY_VERSION_SOCIAL)
        return 0;
    int err = place_of(apply, conv, user, root, &before);
    if (err != 0 || before >= seq)
        return err;
    char value[PLACE_SIZE];
    struct key key = key_place(apply->partition, conv->id, user, root);
    put_le64(value, seq);
    state_put(apply, KV_CONV, key_span(&key), span_of(value, PLACE_SIZE));
    *moved = true;
    return 0;
}

/* ---- the list ---- */

static int count_unread(struct apply *apply, const struct conv *conv, const struct member *member,
                        uint64_t root, uint64_t place, uint64_t now_ms, uint64_t *count)
{
    struct span user = span_str(member->row->user);
    struct key from = key_thread(apply->partition, conv->id, root, place + 1);
    struct key until = key_thread(apply->partition, conv->id, root, UINT64_MAX);
    struct kv_iter iter;
    int err = 0;
    *count = 0;
    kv_iter_open(&iter, apply->kv, NULL, KV_CONV, key_span(&from), key_span(&until));
    for (kv_iter_first(&iter); err == 0 && kv_iter_valid(&iter) && *count < THREAD_COUNTED_MAX;
         kv_iter_next(&iter)) {
        struct span key = kv_iter_key(&iter), value = kv_iter_value(&iter);
        bool hidden = false;
        if (value.n != THREAD_SIZE)
            err = ERR_CORRUPT;
        else if (member->row->hidden > 0)
            err = hidden_has(apply->kv, NULL, apply->partition, conv->id, user,
                             get_be64(key.p + key.n - 8), &hidden);
        if (err == 0 && !hidden)
            *count += get_le64(value.p) == 0 || get_le64(value.p) > now_ms;
    }
    if (err == 0)
        err = kv_iter_error(&iter);
    kv_iter_close(&iter);
    return err;
}

static int fill(struct apply *apply, const struct conv *conv, const struct member *member,
                uint64_t now_ms, struct arena *arena, Loquat__Thread *thread)
{
    Loquat__Fold *fold = NULL;
    int err = state_fold(apply, conv, thread->root, arena, &fold);
    if (err == 0)
        err = place_of(apply, conv, span_str(member->row->user), thread->root, &thread->read);
    if (err != 0)
        return err;
    thread->replies = fold->replies;
    uint64_t since =
        thread->read > member->row->joined_seq ? thread->read : member->row->joined_seq;
    return count_unread(apply, conv, member, thread->root, since, now_ms, &thread->unread);
}

int thread_list(struct apply *apply, const struct conv *conv, const struct member *member,
                uint64_t from, size_t max, uint64_t now_ms, struct arena *arena,
                Loquat__Reply *reply)
{
    uint64_t low = conv->header->history_joined ? member->row->joined_seq : 1;
    if (low < conv->header->floor)
        low = conv->header->floor;
    struct key first = key_active(apply->partition, conv->id, low);
    struct key until = key_active(apply->partition, conv->id, from != 0 ? from : UINT64_MAX);
    struct kv_iter iter;
    int err = 0;
    reply->threads = arena_alloc(arena, (max + 1) * sizeof *reply->threads);
    kv_iter_open(&iter, apply->kv, NULL, KV_CONV, key_span(&first), key_span(&until));
    for (kv_iter_last(&iter); err == 0 && kv_iter_valid(&iter); kv_iter_prev(&iter)) {
        struct span key = kv_iter_key(&iter), value = kv_iter_value(&iter);
        if (reply->n_threads == max) {
            reply->next = reply->threads[max - 1]->last;
            break;
        }
        if (value.n != ACTIVE_SIZE) {
            err = ERR_CORRUPT;
            break;
        }
        Loquat__Thread *thread = arena_alloc(arena, sizeof *thread);
        loquat__thread__init(thread);
        thread->last = get_be64(key.p + key.n - 8);
        thread->root = get_le64(value.p);
        if (thread->root < low)
            continue; /* its root can't be seen */
        reply->threads[reply->n_threads++] = thread;
        err = fill(apply, conv, member, now_ms, arena, thread);
    }
    if (err == 0)
        err = kv_iter_error(&iter);
    kv_iter_close(&iter);
    return err;
}
