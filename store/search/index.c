#include "store/search/index.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/file.h"
#include "store/base/log.h"
#include "store/key.h"

enum { INDEX_CONV_OFF = 1, INDEX_CONV_CHANGING = 2 };

static const char META_KEY[] = {(char)0xff, (char)0xff, 0}, ROWS[] = {(char)0xff, (char)0xfe};

static int read_number(struct kv *index, struct span key, uint64_t *number)
{
    struct buf value = {0};
    int err = kv_get(index, KV_LOG, key, &value);
    *number = 0;
    if (err == ERR_NOT_FOUND)
        err = 0;
    else if (err == 0 && get_varint(value.p, value.n, number) == 0)
        err = ERR_CORRUPT;
    buf_close(&value);
    return err;
}

static void put_number(struct kv_batch *batch, struct span key, uint64_t number)
{
    char room[VARINT_MAX];
    kv_put(batch, KV_LOG, key, span_of(room, put_varint(room, number)));
}

/* ---- opening ---- */

static int open_kv(const char *dir, struct kv **index)
{
    struct kv_options options = {.create = true};
    return kv_open(dir, KV_INDEX, &options, index);
}

static void meta_of(const char *id, struct buf *meta)
{
    meta->n = 0;
    buf_addf(meta, "%d %s", INDEX_VERSION, id);
}

static bool is_ours(struct kv *index, const char *id)
{
    struct buf value = {0}, meta = {0};
    meta_of(id, &meta);
    bool ours = kv_get(index, KV_LOG, span_of(META_KEY, sizeof META_KEY), &value) == 0 &&
                span_eq(buf_span(&value), buf_span(&meta));
    buf_close(&value);
    buf_close(&meta);
    return ours;
}

static int begin(struct kv *index, const char *id)
{
    struct buf meta = {0};
    struct kv_batch batch;
    meta_of(id, &meta);
    kv_batch_init(&batch, index);
    kv_put(&batch, KV_LOG, span_of(META_KEY, sizeof META_KEY), buf_span(&meta));
    int err = kv_write(&batch);
    kv_batch_close(&batch);
    buf_close(&meta);
    return err;
}

int index_open(const char *dir, const char *id, struct kv **index, bool *fresh)
{
    int err = open_kv(dir, index);
    *fresh = err != 0 || !is_ours(*index, id);
    if (!*fresh)
        return 0;
    if (err != 0 && !kv_damaged(err))
        return err;
    if (err != 0)
        log_warn("the search index is damaged and is made anew", {"dir", log_str(dir)},
                 {"what", log_str(kv_error())});
    else
        kv_close(*index);
    file_empty_directory(dir);
    err = open_kv(dir, index);
    return err == 0 ? begin(*index, id) : err;
}

int index_condemn(struct kv *index)
{
    struct kv_batch batch;
    kv_batch_init(&batch, index);
    kv_delete(&batch, KV_LOG, span_of(META_KEY, sizeof META_KEY));
    int err = kv_write(&batch);
    kv_batch_close(&batch);
    return err;
}

/* ---- keys ---- */

/* Before its segments. */
static struct index_key conv_key(uint32_t partition, struct conv_id conv)
{
    struct key key = key_conv(partition, conv);
    struct index_key made = {.n = key.n};
    memcpy(made.p, key.p, key.n);
    return made;
}

struct index_key index_row_key(uint32_t partition, struct conv_id conv)
{
    struct key key = key_conv(partition, conv);
    struct index_key made = {.n = sizeof ROWS + key.n};
    memcpy(made.p, ROWS, sizeof ROWS);
    memcpy(made.p + sizeof ROWS, key.p, key.n);
    return made;
}

struct index_key index_key(uint32_t partition, struct conv_id conv, uint32_t segment,
                           struct span term)
{
    ASSERT(term.n <= TERM_BYTES_MAX);
    struct index_key key = conv_key(partition, conv);
    put_be16(key.p + key.n, (uint16_t)(segment >> 16));
    put_be16(key.p + key.n + 2, (uint16_t)segment);
    key.n += 4;
    if (term.n > 0)
        memcpy(key.p + key.n, term.p, term.n);
    key.n += term.n;
    return key;
}

int index_fed(struct kv *index, uint32_t partition, uint64_t *offset)
{
    struct key key = key_partition(partition);
    return read_number(index, key_span(&key), offset);
}

static int read_row(struct span value, struct index_conv *row)
{
    uint64_t bits = 0;
    uint64_t *const numbers[] = {&row->through, &row->floor, &row->mid, &bits};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        size_t n = get_varint(value.p, value.n, numbers[i]);
        if (n == 0)
            return ERR_CORRUPT;
        value = span_of(value.p + n, value.n - n);
    }
    if (value.n > LANG_MAX)
        return ERR_CORRUPT;
    row->off = bits & INDEX_CONV_OFF;
    row->changing = bits & INDEX_CONV_CHANGING;
    memcpy(row->lang, value.p, value.n);
    return 0;
}

int index_conv(struct kv *index, uint32_t partition, struct conv_id conv, struct index_conv *row)
{
    return index_convs(index, partition, &conv, 1, row);
}

struct rows {
    struct index_conv *rows;
    int err;
};
static void take_row(void *arg, size_t i, struct span value)
{
    struct rows *rows = arg;
    int err = read_row(value, &rows->rows[i]);
    if (err != 0)
        rows->err = err;
}

int index_convs(struct kv *index, uint32_t partition, const struct conv_id *convs, size_t count,
                struct index_conv *rows)
{
    const struct kv_view now = {.kv = index};
    struct index_key keys[KV_EACH_MAX];
    struct span spans[KV_EACH_MAX];
    int err = 0;
    memset(rows, 0, count * sizeof *rows);
    for (size_t at = 0; at < count && err == 0; at += KV_EACH_MAX) {
        struct rows taken = {.rows = rows + at};
        size_t n = count - at < KV_EACH_MAX ? count - at : KV_EACH_MAX;
        for (size_t i = 0; i < n; i++) {
            keys[i] = index_row_key(partition, convs[at + i]);
            spans[i] = index_key_span(&keys[i]);
        }
        err = kv_view_get_each(&now, KV_LOG, spans, n, take_row, &taken);
        err = err == 0 ? taken.err : err;
    }
    return err;
}

void index_put_fed(struct kv_batch *batch, uint32_t partition, uint64_t offset)
{
    struct key key = key_partition(partition);
    put_number(batch, key_span(&key), offset);
}

void index_put_conv(struct kv_batch *batch, uint32_t partition, struct conv_id conv,
                    const struct index_conv *row)
{
    struct index_key key = index_row_key(partition, conv);
    char room[4 * VARINT_MAX + LANG_MAX];
    uint64_t bits = (row->off ? INDEX_CONV_OFF : 0) | (row->changing ? INDEX_CONV_CHANGING : 0);
    size_t lang = strlen(row->lang), n = put_varint(room, row->through);
    n += put_varint(room + n, row->floor);
    n += put_varint(room + n, row->mid);
    n += put_varint(room + n, bits);
    memcpy(room + n, row->lang, lang);
    kv_put(batch, KV_LOG, index_key_span(&key), span_of(room, n + lang));
}

/* Behind all that begins with it. */
static struct index_key next_key(struct index_key key)
{
    while (key.n > 0 && (uint8_t)key.p[key.n - 1] == 0xff)
        key.n--;
    ASSERT(key.n > 0); /* no partition has the highest number */
    key.p[key.n - 1]++;
    return key;
}

/* Behind the rows of a partition's conversations. */
static struct index_key rows_end(uint32_t partition)
{
    struct index_key key = index_row_key(partition, (struct conv_id){0});
    key.n = sizeof ROWS + 2; /* with the partition */
    return next_key(key);
}

void index_compact(struct kv *index, uint32_t partition)
{
    struct key from = key_partition(partition), until = key_partition(partition + 1);
    struct index_key row = index_row_key(partition, (struct conv_id){0}), end = rows_end(partition);
    kv_compact(index, KV_LOG, key_span(&from), key_span(&until));
    kv_compact(index, KV_LOG, index_key_span(&row), index_key_span(&end));
}

int index_next_conv(struct kv *index, uint32_t partition, struct conv_id *conv)
{
    struct index_key from = index_row_key(partition, *conv), until = rows_end(partition);
    struct kv_iter iter;
    kv_iter_open(&iter, index, NULL, KV_LOG, index_key_span(&from), index_key_span(&until));
    kv_iter_first(&iter);
    int err = kv_iter_valid(&iter) ? 0 : kv_iter_error(&iter);
    if (err == 0 && !kv_iter_valid(&iter))
        err = ERR_NOT_FOUND;
    if (err == 0) {
        struct span key = kv_iter_key(&iter);
        *conv = key_conv_id(span_of(key.p + sizeof ROWS, key.n - sizeof ROWS));
    }
    kv_iter_close(&iter);
    return err;
}

void index_drop(struct kv_batch *batch, uint32_t partition, struct conv_id conv, uint32_t segment)
{
    bool whole = segment == UINT32_MAX;
    struct index_key from =
        whole ? conv_key(partition, conv) : index_key(partition, conv, segment, (struct span){0});
    struct index_key until = next_key(from), row = index_row_key(partition, conv);
    kv_delete_range(batch, index_key_span(&from), index_key_span(&until));
    if (whole)
        kv_delete(batch, KV_LOG, index_key_span(&row));
}

/* ---- writing ---- */

static size_t utf8_size(char lead)
{
    uint8_t byte = (uint8_t)lead;
    return byte < 0xc0 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

/* A pair as `first` and what follows it; false: it is none. */
static bool split_pair(struct span term, struct span *first, struct span *second)
{
    if (term.n < 2 || term.p[0] != TERM_CHARS || utf8_size(term.p[1]) > term.n - 1)
        return false;
    *first = span_of(term.p + 1, utf8_size(term.p[1]));
    *second = span_of(term.p + 1 + first->n, term.n - 1 - first->n);
    return true;
}

static void put_row(struct index_writer *writer, struct span term, struct span value)
{
    struct index_key key = index_key(writer->partition, writer->conv, writer->segment, term);
    kv_append(writer->batch, KV_LOG, index_key_span(&key), value);
}

void index_put_end(struct index_writer *writer)
{
    struct term term = term_of(TERM_CHARS, span_of(writer->first, writer->first_n));
    if (writer->pairs.n > 0)
        put_row(writer, term_span(&term), buf_span(&writer->pairs));
    writer->pairs.n = writer->first_n = 0;
}

void index_put(struct index_writer *writer, struct span term, struct span run)
{
    struct span first, second;
    if (!split_pair(term, &first, &second)) {
        index_put_end(writer);
        put_row(writer, term, run);
        return;
    }
    if (!span_eq(first, span_of(writer->first, writer->first_n)))
        index_put_end(writer);
    memcpy(writer->first, first.p, first.n);
    writer->first_n = first.n;
    if (second.n > 0)
        buf_add_span(&writer->pairs, second);
    else
        buf_add_byte(&writer->pairs, 0);
    while (run.n > 0) { /* of one batch: it begins once */
        uint64_t number = 0;
        size_t size = get_varint(run.p, run.n, &number);
        ASSERT(size > 0);
        run = span_of(run.p + size, run.n - size);
        buf_add_varint(&writer->pairs, (number >> 1) << 1 | (run.n == 0));
    }
}

/* ---- finding ---- */

/* The places of one pair, which are moved over; `set` NULL: they are only that. */
static int add_places(struct span *row, struct posting_set *set)
{
    uint64_t place = 0, number = 0;
    while (!(number & 1)) {
        size_t size = get_varint(row->p, row->n, &number);
        place += number >> 1;
        if (size == 0 || place >= SEGMENT_SIZE)
            return ERR_CORRUPT;
        if (set != NULL)
            posting_set_add_place(set, (uint16_t)place);
        *row = span_of(row->p + size, row->n - size);
    }
    return 0;
}

/* Of pairs those with this second one; `any`: all. */
static int add_pairs(struct span row, struct span second, bool any, struct posting_set *set)
{
    int err = 0;
    if (second.n == 0)
        second = span_of("", 1);
    while (row.n > 0 && err == 0) {
        size_t n = utf8_size(row.p[0]);
        if (n > row.n)
            return ERR_CORRUPT;
        bool wanted = any || span_eq(span_of(row.p, n), second);
        row = span_of(row.p + n, row.n - n);
        err = add_places(&row, wanted ? set : NULL);
    }
    return err;
}

static int get_row(struct kv *index, const struct index_key *key, struct posting_set *set)
{
    int err = kv_get(index, KV_LOG, index_key_span(key), &set->row);
    if (err == ERR_NOT_FOUND)
        set->row.n = 0;
    return err == ERR_NOT_FOUND ? 0 : err;
}

static int find_pairs(struct kv *index, uint32_t partition, struct conv_id conv, uint32_t segment,
                      struct span first, struct span second, bool any, struct posting_set *set)
{
    struct term term = term_of(TERM_CHARS, first);
    struct index_key key = index_key(partition, conv, segment, term_span(&term));
    int err = get_row(index, &key, set);
    return err == 0 ? add_pairs(buf_span(&set->row), second, any, set) : err;
}

int index_find(struct kv *index, uint32_t partition, struct conv_id conv, uint32_t segment,
               struct span term, struct posting_set *set)
{
    struct span first, second;
    if (split_pair(term, &first, &second))
        return find_pairs(index, partition, conv, segment, first, second, false, set);
    struct index_key key = index_key(partition, conv, segment, term);
    int err = get_row(index, &key, set);
    return err == 0 ? posting_set_add(set, buf_span(&set->row)) : err;
}

static int find_rows(struct kv *index, const struct index_key *from, const struct index_key *until,
                     struct posting_set *set)
{
    struct kv_iter iter;
    int err = 0;
    kv_iter_open(&iter, index, NULL, KV_LOG, index_key_span(from), index_key_span(until));
    for (kv_iter_first(&iter); err == 0 && kv_iter_valid(&iter); kv_iter_next(&iter))
        err = posting_set_add(set, kv_iter_value(&iter));
    if (err == 0)
        err = kv_iter_error(&iter);
    kv_iter_close(&iter);
    return err;
}

int index_find_prefix(struct kv *index, uint32_t partition, struct conv_id conv, uint32_t segment,
                      struct span prefix, struct posting_set *set)
{
    struct index_key from = index_key(partition, conv, segment, prefix), until = next_key(from);
    struct span first, second;
    if (split_pair(prefix, &first, &second))
        return find_pairs(index, partition, conv, segment, first, second, true, set);
    return find_rows(index, &from, &until, set);
}

int index_find_range(struct kv *index, uint32_t partition, struct conv_id conv, uint32_t segment,
                     struct span first, struct span last, struct posting_set *set)
{
    struct index_key from = index_key(partition, conv, segment, first);
    struct index_key until = index_key(partition, conv, segment, last);
    until.p[until.n++] = 0;
    return find_rows(index, &from, &until, set);
}
