#include "compaction/filter.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "compaction/strip.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/map.h"
#include "store/feedlog.h"
#include "store/key.h"
#include "store/kv.h"

struct filter {
    pthread_rwlock_t lock;
    struct map floors; /* conversation → lowest sequence kept */
    struct map feeds;  /* partition → entries below it may go */
    _Atomic uint64_t rows[CAUSE_COUNT], bytes[CAUSE_COUNT], gone[CAUSE_COUNT];
};

struct filter *filter_new(void)
{
    struct filter *filter = xcalloc(1, sizeof *filter);
    int rv = pthread_rwlock_init(&filter->lock, NULL);
    ASSERT(rv == 0);
    map_init(&filter->floors);
    map_init(&filter->feeds);
    return filter;
}

void filter_free(struct filter *filter)
{
    if (filter == NULL)
        return;
    map_close(&filter->floors);
    map_close(&filter->feeds);
    pthread_rwlock_destroy(&filter->lock);
    free(filter);
}

/* A conversation lives in one partition, but a row in the wrong one must not be taken for it. */
static struct map_key floor_key(uint32_t partition, struct conv_id id)
{
    return (struct map_key){id.hi ^ partition, id.lo};
}

static void raise_to(struct filter *filter, struct map *map, struct map_key key, uint64_t to)
{
    bool fresh;
    pthread_rwlock_wrlock(&filter->lock);
    union map_val *val = map_put(map, key, &fresh);
    if (val->u < to)
        val->u = to;
    pthread_rwlock_unlock(&filter->lock);
}

void filter_raise(struct filter *filter, uint32_t partition, struct conv_id id, uint64_t floor)
{
    raise_to(filter, &filter->floors, floor_key(partition, id), floor);
}

void filter_raise_feed(struct filter *filter, uint32_t partition, uint64_t index)
{
    raise_to(filter, &filter->feeds, (struct map_key){partition, 0}, index);
}

/* 0: nothing is known. Under the lock. */
static uint64_t raised(const struct map *map, struct map_key key)
{
    const union map_val *val = map_get(map, key);
    return val != NULL ? val->u : 0;
}

static uint64_t floor_of(struct filter *filter, struct span key)
{
    struct conv_id id = {get_be64(key.p + 2), get_be64(key.p + 10)};
    pthread_rwlock_rdlock(&filter->lock);
    uint64_t floor = raised(&filter->floors, floor_key(get_be16(key.p), id));
    pthread_rwlock_unlock(&filter->lock);
    return floor;
}

/* Whether every record of an entry is below its floor. A row that can't be read stays. */
static bool all_below(const struct filter *filter, uint32_t partition, struct span row)
{
    bool below = row.n > 0;
    while (below && row.n > 0) {
        struct feedlog_run run;
        if (feedlog_run(&row, &run) != 0)
            return false;
        uint64_t floor = raised(&filter->floors, floor_key(partition, run.conv));
        below = run.first < floor && run.count <= floor - run.first;
    }
    return below;
}

static int decide_feed(struct filter *filter, struct span key, struct span row)
{
    if (key.n != key_number(0, 0).n)
        return KV_KEEP;
    uint32_t partition = get_be16(key.p);
    pthread_rwlock_rdlock(&filter->lock);
    uint64_t until = raised(&filter->feeds, (struct map_key){partition, 0});
    bool goes = get_be64(key.p + 2) < until && all_below(filter, partition, row);
    pthread_rwlock_unlock(&filter->lock);
    return goes ? KV_DROP : KV_KEEP;
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

static int decide_log(struct filter *filter, struct span key, struct span old, struct buf *value)
{
    uint64_t floor = key.n == KEY_SEQ_SIZE ? floor_of(filter, key) : 0;
    return filter_decide(key, old, floor, clock_wall_ms(), value);
}

int filter_row(void *arg, enum kv_cf cf, struct span key, struct span old, struct buf *value)
{
    struct filter *filter = arg;
    bool feed = cf == KV_FEED;
    int verdict = feed ? decide_feed(filter, key, old) : decide_log(filter, key, old, value);
    if (verdict != KV_KEEP) {
        enum cause cause = feed ? CAUSE_FEED : verdict == KV_DROP ? CAUSE_FLOOR : CAUSE_EXPIRED;
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
