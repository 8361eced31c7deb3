/* tests/sim/sim_kv.c: store/kv.h in memory. */
#include <stdlib.h>
#include <xxhash.h>

#include "store/base/check.h"
#include "store/kv_stage.h"
#include "tests/sim/world.h"

struct row {
    struct buf key, value;
};
struct table {
    struct row *rows; /* in the order of keys */
    size_t count, cap;
};
struct kv {
    struct table tables[KV_CF_COUNT], flushed[KV_CF_COUNT];
    struct table staged[KV_CF_COUNT]; /* a stage: of a data DB one at most */
    struct table marked[KV_CF_COUNT]; /* what there was of it then */
    struct buf note;                  /* of the mark; empty: there is none */
    bool finished, torn;
};

enum op_kind { OP_PUT, OP_APPEND, OP_DELETE };
struct op {
    enum op_kind kind;
    enum kv_cf cf;
    struct buf key, value;
};
struct ops {
    struct op *items;
    size_t count, cap, bytes;
};

const char *kv_error(void)
{
    return "";
}

/* ---- tables ---- */

static size_t lower(const struct table *table, struct span key) /* the first that is not below */
{
    size_t from = 0, until = table->count;
    while (from < until) {
        size_t middle = (from + until) / 2;
        if (span_cmp(buf_span(&table->rows[middle].key), key) < 0)
            from = middle + 1;
        else
            until = middle;
    }
    return from;
}

static struct row *find(const struct table *table, struct span key)
{
    size_t at = lower(table, key);
    bool there = at < table->count && span_eq(buf_span(&table->rows[at].key), key);
    return there ? &table->rows[at] : NULL;
}

static void row_free(struct row *row)
{
    buf_close(&row->key);
    buf_close(&row->value);
}

static struct row *find_or_add(struct table *table, struct span key)
{
    size_t at = lower(table, key);
    if (at < table->count && span_eq(buf_span(&table->rows[at].key), key))
        return &table->rows[at];
    if (table->count == table->cap) {
        table->cap = table->cap == 0 ? 64 : table->cap * 2;
        table->rows = xrealloc(table->rows, table->cap * sizeof *table->rows);
    }
    memmove(table->rows + at + 1, table->rows + at, (table->count - at) * sizeof *table->rows);
    table->count++;
    table->rows[at] = (struct row){0};
    buf_add_span(&table->rows[at].key, key);
    return &table->rows[at];
}

static void drop(struct table *table, size_t from, size_t until)
{
    for (size_t i = from; i < until; i++)
        row_free(&table->rows[i]);
    if (until > from)
        memmove(table->rows + from, table->rows + until,
                (table->count - until) * sizeof *table->rows);
    table->count -= until - from;
}

static void table_clear(struct table *table)
{
    drop(table, 0, table->count);
    free(table->rows);
    *table = (struct table){0};
}

static void table_copy(struct table *to, const struct table *from)
{
    table_clear(to);
    to->rows = xcalloc(from->count + 1, sizeof *to->rows);
    to->count = to->cap = from->count;
    for (size_t i = 0; i < from->count; i++) {
        buf_add_span(&to->rows[i].key, buf_span(&from->rows[i].key));
        buf_add_span(&to->rows[i].value, buf_span(&from->rows[i].value));
    }
}

/* ---- databases ---- */

struct kv *sim_kv_new(void)
{
    return xcalloc(1, sizeof(struct kv));
}

void sim_kv_free(struct kv *kv)
{
    for (size_t i = 0; i < KV_CF_COUNT; i++) {
        table_clear(&kv->tables[i]);
        table_clear(&kv->flushed[i]);
        table_clear(&kv->staged[i]);
        table_clear(&kv->marked[i]);
    }
    buf_close(&kv->note);
    free(kv);
}

void sim_kv_flush(struct kv *kv)
{
    for (size_t i = 0; i < KV_CF_COUNT; i++)
        if (i != KV_CONV || !sim_mutant("torn-flush"))
            table_copy(&kv->flushed[i], &kv->tables[i]);
}

static void drop_staged(struct kv *kv)
{
    for (size_t i = 0; i < KV_CF_COUNT; i++)
        table_clear(&kv->staged[i]);
    kv->finished = false;
}

void sim_kv_crash(struct kv *kv)
{
    for (size_t i = 0; i < KV_CF_COUNT; i++)
        table_copy(&kv->tables[i], &kv->flushed[i]);
    kv->torn = false;
    if (!kv->finished)
        drop_staged(kv);
}

void sim_kv_clear(struct kv *kv)
{
    for (size_t i = 0; i < KV_CF_COUNT; i++) {
        table_clear(&kv->tables[i]);
        table_clear(&kv->flushed[i]);
    }
}

bool sim_kv_torn(struct kv *kv)
{
    return kv->torn;
}

uint64_t sim_kv_hash(struct kv *kv, enum kv_cf cf)
{
    uint64_t hash = 0;
    const struct table *table = &kv->tables[cf];
    for (size_t i = 0; i < table->count; i++) {
        struct span key = buf_span(&table->rows[i].key), value = buf_span(&table->rows[i].value);
        hash = XXH3_64bits_withSeed(key.p, key.n, hash);
        hash = XXH3_64bits_withSeed(value.p, value.n, hash);
    }
    return hash;
}

/* ---- batches ---- */

void kv_batch_init(struct kv_batch *batch, struct kv *kv)
{
    batch->kv = kv;
    batch->rocks = xcalloc(1, sizeof(struct ops));
}

static void ops_clear(struct ops *ops)
{
    for (size_t i = 0; i < ops->count; i++) {
        buf_close(&ops->items[i].key);
        buf_close(&ops->items[i].value);
    }
    ops->count = ops->bytes = 0;
}

void kv_batch_clear(struct kv_batch *batch)
{
    ops_clear(batch->rocks);
}

void kv_batch_close(struct kv_batch *batch)
{
    struct ops *ops = batch->rocks;
    ops_clear(ops);
    free(ops->items);
    free(ops);
    batch->rocks = NULL;
}

size_t kv_batch_bytes(const struct kv_batch *batch)
{
    return ((const struct ops *)batch->rocks)->bytes;
}

bool kv_batch_empty(const struct kv_batch *batch)
{
    return ((const struct ops *)batch->rocks)->count == 0;
}

static void add(struct kv_batch *batch, enum op_kind kind, enum kv_cf cf, struct span key,
                struct span value, struct span rest)
{
    struct ops *ops = batch->rocks;
    if (ops->count == ops->cap) {
        ops->cap = ops->cap == 0 ? 16 : ops->cap * 2;
        ops->items = xrealloc(ops->items, ops->cap * sizeof *ops->items);
    }
    struct op *op = &ops->items[ops->count++];
    *op = (struct op){.kind = kind, .cf = cf};
    buf_add_span(&op->key, key);
    buf_add_span(&op->value, value);
    buf_add_span(&op->value, rest);
    ops->bytes += key.n + value.n + rest.n;
}

void kv_put(struct kv_batch *batch, enum kv_cf cf, struct span key, struct span value)
{
    add(batch, OP_PUT, cf, key, value, (struct span){0});
}

void kv_put2(struct kv_batch *batch, enum kv_cf cf, struct span key, struct span head,
             struct span rest)
{
    add(batch, OP_PUT, cf, key, head, rest);
}

void kv_append(struct kv_batch *batch, enum kv_cf cf, struct span key, struct span value)
{
    add(batch, OP_APPEND, cf, key, value, (struct span){0});
}

void kv_delete(struct kv_batch *batch, enum kv_cf cf, struct span key)
{
    add(batch, OP_DELETE, cf, key, (struct span){0}, (struct span){0});
}

static void run(struct kv *kv, const struct op *op)
{
    struct table *table = &kv->tables[op->cf];
    struct span key = buf_span(&op->key);
    if (op->kind == OP_DELETE) {
        size_t at = lower(table, key);
        drop(table, at, find(table, key) != NULL ? at + 1 : at);
    } else {
        struct row *row = find_or_add(table, key);
        if (op->kind == OP_PUT)
            row->value.n = 0;
        buf_add_span(&row->value, buf_span(&op->value));
    }
}

int kv_write(struct kv_batch *batch)
{
    struct ops *ops = batch->rocks;
    for (size_t i = 0; i < ops->count; i++)
        run(batch->kv, &ops->items[i]);
    ops_clear(ops);
    return 0;
}

/* ---- reading ---- */

static int get(const struct table *table, struct span key, struct buf *value)
{
    const struct row *row = find(table, key);
    value->n = 0;
    if (row == NULL)
        return ERR_NOT_FOUND;
    buf_add_span(value, buf_span(&row->value));
    return 0;
}

int kv_get(struct kv *kv, enum kv_cf cf, struct span key, struct buf *value)
{
    return get(&kv->tables[cf], key, value);
}

int kv_get_flushed(struct kv *kv, enum kv_cf cf, struct span key, struct buf *value)
{
    return get(&kv->flushed[cf], key, value);
}

/* ---- moments ---- */

struct moment {
    struct table tables[KV_CF_COUNT];
};

void kv_view_open(struct kv_view *view, struct kv *kv)
{
    struct moment *moment = xcalloc(1, sizeof *moment);
    for (size_t i = 0; i < KV_CF_COUNT; i++)
        table_copy(&moment->tables[i], &kv->tables[i]);
    *view = (struct kv_view){kv, moment};
}

void kv_view_close(struct kv_view *view)
{
    struct moment *moment = (struct moment *)(uintptr_t)view->snapshot;
    for (size_t i = 0; i < KV_CF_COUNT; i++)
        table_clear(&moment->tables[i]);
    free(moment);
}

int kv_view_get(const struct kv_view *view, enum kv_cf cf, struct span key, struct buf *value)
{
    return get(&((const struct moment *)view->snapshot)->tables[cf], key, value);
}

int kv_view_get_each(const struct kv_view *view, enum kv_cf cf, const struct span *keys,
                     size_t count, void (*fn)(void *arg, size_t i, struct span value), void *arg)
{
    struct buf value = {0};
    int err = 0;
    for (size_t i = 0; i < count && (err == 0 || err == ERR_NOT_FOUND); i++) {
        err = kv_view_get(view, cf, keys[i], &value);
        if (err == 0)
            fn(arg, i, buf_span(&value));
    }
    buf_close(&value);
    return err == ERR_NOT_FOUND ? 0 : err;
}

/* ---- stages ---- */

struct kv_stage {
    struct kv *kv;
    size_t unmarked;
    enum kv_cf cf;
    struct buf last;
    bool resumed; /* and nothing was put since */
};

uint64_t sim_resumes;

static struct kv_stage *stage_new(struct kv *kv)
{
    struct kv_stage *stage = xcalloc(1, sizeof *stage);
    stage->kv = kv;
    return stage;
}

int kv_stage_open(struct kv *kv, const char *dir, struct kv_stage **stage)
{
    (void)dir;
    drop_staged(kv);
    kv->note.n = 0;
    *stage = stage_new(kv);
    return 0;
}

static void put_last(struct kv_stage *stage, enum kv_cf cf, struct span key)
{
    stage->cf = cf;
    stage->last.n = 0;
    buf_add_span(&stage->last, key);
}

int kv_stage_put(struct kv_stage *stage, enum kv_cf cf, struct span key, struct span value)
{
    struct row *row = find_or_add(&stage->kv->staged[cf], key);
    ASSERT(row->value.n == 0);
    buf_add_span(&row->value, value);
    stage->unmarked += key.n + value.n;
    sim_resumes += stage->resumed;
    stage->resumed = false;
    put_last(stage, cf, key);
    return 0;
}

size_t kv_stage_unmarked(const struct kv_stage *stage)
{
    return stage->unmarked;
}

enum kv_cf kv_stage_last(const struct kv_stage *stage, struct span *key)
{
    *key = buf_span(&stage->last);
    return stage->cf;
}

int kv_stage_mark(struct kv_stage *stage, struct span note)
{
    struct kv *kv = stage->kv;
    for (size_t i = 0; i < KV_CF_COUNT; i++)
        table_copy(&kv->marked[i], &kv->staged[i]);
    kv->note.n = 0;
    buf_add_span(&kv->note, note);
    stage->unmarked = 0;
    return 0;
}

int kv_stage_resume(struct kv *kv, const char *dir, struct kv_stage **out, struct buf *note)
{
    (void)dir;
    if (kv->note.n == 0)
        return ERR_NOT_FOUND;
    struct kv_stage *stage = stage_new(kv);
    for (size_t i = 0; i < KV_CF_COUNT; i++) {
        const struct table *marked = &kv->marked[i];
        table_copy(&kv->staged[i], marked);
        if (marked->count > 0)
            put_last(stage, (enum kv_cf)i, buf_span(&marked->rows[marked->count - 1].key));
    }
    kv->finished = false;
    stage->resumed = true;
    buf_add_span(note, buf_span(&kv->note));
    *out = stage;
    return 0;
}

int kv_stage_finish(struct kv_stage *stage)
{
    stage->kv->finished = true;
    return 0;
}

void kv_stage_close(struct kv_stage *stage)
{
    if (stage != NULL)
        buf_close(&stage->last);
    free(stage);
}

void kv_stage_remove(const char *dir)
{
    (void)dir; /* the next stage begins with it */
}

uint64_t sim_installs;

/* All rows are of one partition. */
int kv_stage_install(struct kv *kv, const char *dir, struct span from, struct span until)
{
    (void)dir, (void)from, (void)until;
    if (!kv->finished)
        return ERR_CORRUPT;
    sim_installs++;
    size_t upto = sim_chance(30) ? sim_roll(KV_CF_COUNT) : KV_CF_COUNT;
    for (size_t i = 0; i < upto; i++) {
        if (sim_mutant("old-rows-stay"))
            for (size_t r = 0; r < kv->staged[i].count; r++) {
                struct row *row = find_or_add(&kv->tables[i], buf_span(&kv->staged[i].rows[r].key));
                row->value.n = 0;
                buf_add_span(&row->value, buf_span(&kv->staged[i].rows[r].value));
            }
        else
            table_copy(&kv->tables[i], &kv->staged[i]);
        table_copy(&kv->flushed[i], &kv->tables[i]);
    }
    kv->torn = upto < KV_CF_COUNT;
    if (!kv->torn)
        kv->note.n = 0;
    return kv->torn ? ERR_IO : 0;
}

/* ---- iterators ---- */

struct place { /* rows are not changed while it is open */
    const struct table *table;
    size_t at, from, until;
    bool valid;
};

void kv_iter_open(struct kv_iter *iter, struct kv *kv, const struct kv_view *view, enum kv_cf cf,
                  struct span from, struct span until)
{
    struct place *place = xcalloc(1, sizeof *place);
    place->table =
        view != NULL ? &((const struct moment *)view->snapshot)->tables[cf] : &kv->tables[cf];
    place->from = lower(place->table, from);
    place->until = lower(place->table, until);
    *iter = (struct kv_iter){.rocks = place};
}

void kv_iter_open_scan(struct kv_iter *iter, struct kv *kv, const struct kv_view *view,
                       enum kv_cf cf, struct span from, struct span until)
{
    kv_iter_open(iter, kv, view, cf, from, until);
}

void kv_iter_open_near(struct kv_iter *iter, struct kv *kv, const struct kv_view *view)
{
    static const char ABOVE[] = {(char)0xff, (char)0xff};
    kv_iter_open(iter, kv, view, KV_LOG, (struct span){0}, span_of(ABOVE, sizeof ABOVE));
}

void kv_iter_close(struct kv_iter *iter)
{
    free(iter->rocks);
}

static void move_to(struct kv_iter *iter, size_t at)
{
    struct place *place = iter->rocks;
    place->valid = at != SIZE_MAX && at >= place->from && at < place->until;
    place->at = at;
}

void kv_iter_first(struct kv_iter *iter)
{
    move_to(iter, ((struct place *)iter->rocks)->from);
}

void kv_iter_last(struct kv_iter *iter)
{
    move_to(iter, ((struct place *)iter->rocks)->until - 1);
}

void kv_iter_seek(struct kv_iter *iter, struct span key)
{
    const struct place *place = iter->rocks;
    size_t at = lower(place->table, key);
    move_to(iter, at > place->from ? at : place->from);
}

void kv_iter_next(struct kv_iter *iter)
{
    move_to(iter, ((struct place *)iter->rocks)->at + 1);
}

void kv_iter_prev(struct kv_iter *iter)
{
    move_to(iter, ((struct place *)iter->rocks)->at - 1);
}

bool kv_iter_valid(const struct kv_iter *iter)
{
    return ((const struct place *)iter->rocks)->valid;
}

struct span kv_iter_key(const struct kv_iter *iter)
{
    const struct place *place = iter->rocks;
    return buf_span(&place->table->rows[place->at].key);
}

struct span kv_iter_value(const struct kv_iter *iter)
{
    const struct place *place = iter->rocks;
    return buf_span(&place->table->rows[place->at].value);
}

int kv_iter_error(const struct kv_iter *iter)
{
    (void)iter;
    return 0;
}
