#include "compaction/filter.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "compaction/strip.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/map.h"
#include "store/key.h"
#include "store/kv.h"

struct filter {
    pthread_rwlock_t lock;
    struct map floors; /* conversation → lowest sequence kept */
    _Atomic uint64_t rows[CAUSE_COUNT], bytes[CAUSE_COUNT], gone[CAUSE_COUNT];
};

struct filter *filter_new(void)
{
    struct filter *filter = xcalloc(1, sizeof *filter);
    int rv = pthread_rwlock_init(&filter->lock, NULL);
    ASSERT(rv == 0);
    map_init(&filter->floors);
    return filter;
}

void filter_free(struct filter *filter)
{
    if (filter == NULL)
        return;
    map_close(&filter->floors);
    pthread_rwlock_destroy(&filter->lock);
    free(filter);
}

/* A conversation lives in one partition, but a row in the wrong one must not be taken for it. */
static struct map_key floor_key(uint32_t partition, struct conv_id id)
{
    return (struct map_key){id.hi ^ partition, id.lo};
}

void filter_raise(struct filter *filter, uint32_t partition, struct conv_id id, uint64_t floor)
{
    bool fresh;
    pthread_rwlock_wrlock(&filter->lock);
    union map_val *val = map_put(&filter->floors, floor_key(partition, id), &fresh);
    if (val->u < floor)
        val->u = floor;
    pthread_rwlock_unlock(&filter->lock);
}

static uint64_t floor_of(struct filter *filter, struct span key)
{
    struct conv_id id = {get_be64(key.p + 2), get_be64(key.p + 10)};
    pthread_rwlock_rdlock(&filter->lock);
    const union map_val *val = map_get(&filter->floors, floor_key(get_be16(key.p), id));
    uint64_t floor = val != NULL ? val->u : 0;
    pthread_rwlock_unlock(&filter->lock);
    return floor;
}

int filter_decide(struct span key, struct span old, uint64_t floor, uint64_t now_ms,
                  struct buf *value)
{
    if (key.n != KEY_SEQ_SIZE)
        return KV_KEEP;
    if (get_be64(key.p + KEY_CONV_SIZE) < floor)
        return KV_DROP;
    uint64_t expires = strip_expires(old);
    if (expires == 0 || expires > now_ms || strip_record(old, value) != 0 || value->n >= old.n)
        return KV_KEEP; /* a second time there is nothing left to take */
    return KV_REPLACE;
}

int filter_row(void *arg, struct span key, struct span old, struct buf *value)
{
    struct filter *filter = arg;
    uint64_t floor = key.n == KEY_SEQ_SIZE ? floor_of(filter, key) : 0;
    int verdict = filter_decide(key, old, floor, clock_wall_ms(), value);
    if (verdict != KV_KEEP) {
        enum cause cause = verdict == KV_DROP ? CAUSE_FLOOR : CAUSE_EXPIRED;
        uint64_t bytes = key.n + old.n;
        uint64_t gone = verdict == KV_DROP ? bytes : old.n - value->n;
        atomic_fetch_add_explicit(&filter->rows[cause], 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&filter->bytes[cause], bytes, memory_order_relaxed);
        atomic_fetch_add_explicit(&filter->gone[cause], gone, memory_order_relaxed);
    }
    return verdict;
}

void filter_went(const struct filter *filter, struct tally went[CAUSE_COUNT])
{
    for (int i = 0; i < CAUSE_COUNT; i++)
        went[i] = (struct tally){
            .rows = atomic_load_explicit(&filter->rows[i], memory_order_relaxed),
            .bytes = atomic_load_explicit(&filter->bytes[i], memory_order_relaxed),
            .gone = atomic_load_explicit(&filter->gone[i], memory_order_relaxed),
        };
}
