#include "store/feedlog_fetch.h"

#include <stdlib.h>

#include "store/key.h"

enum {
    /* Records side by side are got by an iterator where there are so many, of a conversation that
     * has one in so many of the batch: each seek asks every file, and files that have others near
     * to them, or no filter, are read in vain. */
    RUN_MIN = 4,
    RUN_SHARE = 128,
};

void fetch_close(struct fetch *fetch)
{
    if (fetch->near_open)
        kv_iter_close(&fetch->near);
}

void fetch_begin(struct fetch *fetch, size_t cap)
{
    fetch->slots = arena_alloc(fetch->arena, cap * sizeof *fetch->slots);
    fetch->touched = arena_alloc(fetch->arena, cap * sizeof(struct group *));
    fetch->count = 0;
    fetch->cap = cap;
}

void fetch_want(struct fetch *fetch, struct group *group, uint64_t seq, uint64_t offset)
{
    struct slot *slot = &fetch->slots[fetch->count++];
    *slot = (struct slot){.offset = offset, .seq = seq, .group = group};
    if (group->first == NULL) {
        group->first = slot;
        group->count = 0;
        fetch->touched[fetch->touched_count++] = group;
    } else {
        group->last->next = slot;
    }
    group->last = slot;
    group->count++;
}

static int by_conv(const void *a, const void *b)
{
    const struct group *x = *(struct group *const *)a, *y = *(struct group *const *)b;
    return conv_id_cmp(x->conv, y->conv);
}

/* Some of the slots, in the order of their keys. */
struct wanted {
    struct fetch *fetch;
    size_t count;
    struct slot *slots[KV_EACH_MAX];
    struct key keys[KV_EACH_MAX];
    struct span spans[KV_EACH_MAX];
};

static void keep_value(const struct fetch *fetch, struct slot *slot, struct span value)
{
    slot->value = span_of(arena_copy(fetch->arena, value.p, value.n), value.n);
}

static void on_value(void *arg, size_t i, struct span value)
{
    const struct wanted *wanted = arg;
    keep_value(wanted->fetch, wanted->slots[i], value);
}

static int fetch_wanted(struct wanted *wanted)
{
    int err = kv_view_get_each(wanted->fetch->view, KV_LOG, wanted->spans, wanted->count, on_value,
                               wanted);
    wanted->count = 0;
    return err;
}

static int want(struct wanted *wanted, struct slot *slot)
{
    size_t n = wanted->count++;
    wanted->slots[n] = slot;
    wanted->keys[n] = key_seq(wanted->fetch->partition, slot->group->conv, slot->seq);
    wanted->spans[n] = key_span(&wanted->keys[n]);
    return wanted->count == KV_EACH_MAX ? fetch_wanted(wanted) : 0;
}

/* How many from this one on follow one another, and are near to it. */
static size_t run_length(const struct slot *slot)
{
    size_t n = 1;
    for (; slot->next != NULL && slot->next->seq == slot->seq + 1; slot = slot->next, n++)
        if (slot->next->seq % KEY_NEAR == 0)
            break;
    return n;
}

static int fetch_run(struct fetch *fetch, struct slot *slot, size_t count)
{
    struct key key = key_seq(fetch->partition, slot->group->conv, slot->seq);
    uint64_t last = slot->seq + count - 1;
    struct span conv = span_of(key.p, KEY_CONV_SIZE);
    if (!fetch->near_open)
        kv_iter_open_near(&fetch->near, fetch->view->kv, fetch->view);
    fetch->near_open = true;
    for (kv_iter_seek(&fetch->near, key_span(&key)); kv_iter_valid(&fetch->near);
         kv_iter_next(&fetch->near)) {
        struct span row = kv_iter_key(&fetch->near);
        uint64_t seq = get_be64(row.p + KEY_CONV_SIZE);
        if (seq > last || !span_eq(span_of(row.p, KEY_CONV_SIZE), conv))
            return 0;
        while (slot->seq < seq) /* trimmed */
            slot = slot->next;
        keep_value(fetch, slot, kv_iter_value(&fetch->near));
        if (seq == last)
            return 0;
    }
    return kv_iter_error(&fetch->near);
}

static bool often(const struct fetch *fetch, const struct group *group)
{
    return group->count * RUN_SHARE >= fetch->count;
}

static int fetch_group(struct wanted *wanted, const struct group *group, bool runs)
{
    struct slot *slot = group->first;
    int err = 0;
    while (slot != NULL && err == 0) {
        size_t n = run_length(slot);
        bool run = runs && n >= RUN_MIN;
        if (run)
            err = fetch_run(wanted->fetch, slot, n);
        for (; n > 0 && err == 0; n--, slot = slot->next)
            err = run ? 0 : want(wanted, slot);
    }
    return err;
}

/* In the order of their keys, in which those of a conversation lie side by side. */
int fetch_all(struct fetch *fetch, bool runs)
{
    struct wanted wanted;
    wanted.fetch = fetch;
    wanted.count = 0;
    int err = 0;
    qsort(fetch->touched, fetch->touched_count, sizeof(struct group *), by_conv);
    for (size_t i = 0; i < fetch->touched_count; i++) {
        if (err == 0)
            err = fetch_group(&wanted, fetch->touched[i], runs && often(fetch, fetch->touched[i]));
        fetch->touched[i]->first = fetch->touched[i]->last = NULL;
    }
    fetch->touched_count = 0;
    return err == 0 && wanted.count > 0 ? fetch_wanted(&wanted) : err;
}
