/* The journal as a disk may have it. The first byte says which half:
 *   even  a segment: what stands at each of its offsets is a frame or none, and lends nothing from
 *         beyond the segment. Sums are made to fit, where the byte says so
 *   odd   records of some partitions, in frames: taken or refused; of what is taken each log has no
 *         hole, and told once more, as it is then, it is the same
 * A record in the input: type, partition, index, term, size: a byte each; the payload, or what has
 * to be in it. Types have two flags: its sum is left as it is (wrong), and a new frame begins. */
#include <stdlib.h>
#include <xxhash.h>

#include "replication/journal_frame.h"
#include "replication/rlog_inside.h"
#include "store/base/check.h"
#include "store/base/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    SEGMENT = 7,
    BLOCKS_MAX = 8,
    LOGS_MAX = 4,
    WRONG_SUM = 0x40,
    NEW_FRAME = 0x80,
    RECORD_BYTES = 5,  /* of one in the input, before its payload */
    LARGE_FROM = 0xf0, /* indexes */
    SUM_AT = 40,       /* in a frame's head */
    SUM_END = 48,
};

/* ---- frames ---- */

/* What is in front of the sum stays as it is, or becomes that of a frame. */
static void seal(char *p, size_t room, size_t offset, uint8_t how)
{
    if (how & 1) {
        memcpy(p, "lqjf\1\0\0\0", 8);
        put_le64(p + 16, (uint64_t)SEGMENT << 32 | offset);
    }
    if (how & 2)
        put_le64(p + 8, get_le64(p + 8) % (room + 1));
    size_t size = journal_padded(JOURNAL_HEAD + get_le64(p + 8) % JOURNAL_FRAME_MAX);
    if (size <= room)
        put_le64(p + SUM_AT,
                 XXH3_64bits_withSeed(p + SUM_END, size - SUM_END, XXH3_64bits(p, SUM_AT)));
}

static void check_frame(struct span segment, size_t offset)
{
    struct journal_frame frame;
    if (!journal_frame_at(segment, SEGMENT, offset, &frame))
        return;
    ASSERT(frame.size % JOURNAL_BLOCK == 0 && frame.size <= segment.n - offset);
    ASSERT(frame.records.p == segment.p + offset + JOURNAL_HEAD);
    ASSERT(frame.records.n + JOURNAL_HEAD <= frame.size);
    ASSERT(get_le64(segment.p + offset + 16) == ((uint64_t)SEGMENT << 32 | offset));
    ASSERT(!journal_frame_at(segment, SEGMENT + 1, offset, &frame));
}

/* `data`: a byte for each block that says how it is sealed; then what is in them. */
static void check_segment(const uint8_t *data, size_t size)
{
    if (size < BLOCKS_MAX)
        return;
    const uint8_t *how = data;
    size_t n = size - BLOCKS_MAX, blocks = 1 + how[0] % BLOCKS_MAX;
    size_t all = blocks * JOURNAL_BLOCK - (how[0] & 0x80 ? how[1] : 0);
    char *p = calloc(1, all); /* of exactly that size */
    ASSERT(p != NULL);
    for (size_t b = 0, each = n / blocks; b < blocks; b++) { /* each has its part in front */
        size_t room = all - b * JOURNAL_BLOCK;
        size_t part = each < room ? each : room;
        memcpy(p + b * JOURNAL_BLOCK, data + BLOCKS_MAX + b * each,
               part < JOURNAL_BLOCK ? part : JOURNAL_BLOCK);
    }
    for (size_t b = blocks; b-- > 0;) { /* those behind first: the ones in front may hold them */
        size_t room = all - b * JOURNAL_BLOCK;
        if (room >= JOURNAL_HEAD)
            seal(p + b * JOURNAL_BLOCK, room, b * JOURNAL_BLOCK, how[b] >> 1);
    }
    for (size_t offset = 0; offset <= all + JOURNAL_BLOCK; offset += JOURNAL_BLOCK / 2)
        check_frame(span_of(p, all), offset);
    free(p);
}

/* ---- records ---- */

/* Small ones, and the largest. */
static uint64_t number_of(uint8_t byte)
{
    return byte < LARGE_FROM ? byte : UINT64_MAX - (UINT8_MAX - byte);
}

/* Bytes of a record of that kind, from `from`, which lends its numbers. */
static void make_record(struct buf *out, const uint8_t *from, struct span payload, unsigned logs)
{
    uint64_t index = number_of(from[2]), term = from[3];
    uint8_t type = from[0] & 0x0f;
    size_t head = out->n;
    char *p = buf_grow(out, RLOG_RECORD_HEAD);
    p[0] = (char)type;
    p[1] = 0;
    p[2] = (char)(from[1] % logs);
    p[3] = 0;
    if (type == RLOG_ENTRY || type == RLOG_MOVED) {
        char sum[10] = {0};
        p = buf_grow(out, RLOG_ENTRY_HEAD);
        put_le64(sum, term);
        put_le64(p, index);
        put_le64(p + 8, term);
        put_le64(p + 16, XXH3_64bits_withSeed(payload.p, payload.n,
                                              XXH3_64bits_withSeed(sum, sizeof sum, index)) +
                             (from[0] & WRONG_SUM ? 1 : 0));
        p[24] = p[25] = 0;
    } else if (type == RLOG_HARD) {
        p = buf_grow(out, RLOG_HARD_SIZE);
        put_le64(p, term);
        put_le64(p + 8, index);
        put_le64(p + 16, 0);
        payload.n = payload.n % 8 == 7 ? payload.n : 0;
    } else if (type == RLOG_SNAPSHOT || type >= RLOG_INSTALL) {
        uint64_t gone = from[4] / 16;
        p = buf_grow(out, RLOG_SNAPSHOT_HEAD);
        put_le64(p, index);
        put_le64(p + 8, term);
        put_le64(p + 16, index);
        put_le64(p + 24, gone < index ? index - gone : index);
    }
    buf_add_span(out, payload);
    put_le32(out->p + head + 4, (uint32_t)(out->n - head - RLOG_RECORD_HEAD));
}

static int take(struct rlog *logs, unsigned count, uint64_t *at, struct buf *records)
{
    char *exactly = malloc(records->n > 0 ? records->n : 1);
    ASSERT(exactly != NULL);
    if (records->n > 0)
        memcpy(exactly, records->p, records->n);
    int err = rlog_take(logs, count, *at + JOURNAL_HEAD, span_of(exactly, records->n));
    ASSERT(err == 0 || err == ERR_CORRUPT);
    *at += journal_padded(JOURNAL_HEAD + records->n);
    records->n = 0;
    free(exactly);
    return err;
}

/* All that the input tells, as it is, or made to records that could be. */
static int take_all(struct rlog *logs, unsigned count, const uint8_t *data, size_t size, bool raw)
{
    struct buf records = {0};
    uint64_t at = (uint64_t)SEGMENT << 32;
    int err = 0;
    if (raw)
        buf_add(&records, data, size);
    while (!raw && err == 0 && size >= RECORD_BYTES) {
        size_t n = data[4] < size - RECORD_BYTES ? data[4] : size - RECORD_BYTES;
        if ((data[0] & NEW_FRAME) && records.n > 0)
            err = take(logs, count, &at, &records);
        make_record(&records, data, span_of((const char *)data + RECORD_BYTES, n), count);
        data += RECORD_BYTES + n;
        size -= RECORD_BYTES + n;
    }
    if (err == 0)
        err = take(logs, count, &at, &records);
    buf_close(&records);
    return err;
}

static void check_log(const struct rlog *log)
{
    uint64_t bytes = 0;
    ASSERT(log->first >= 1 && rlog_last(log) >= log->snapshot_index);
    for (uint64_t index = log->first; index <= rlog_last(log); index++) {
        const struct rlog_entry *entry = rlog_get(log, index);
        ASSERT(entry != NULL && journal_segment(entry->at) == SEGMENT);
        ASSERT(rlog_term_at(log, index) == entry->term);
        bytes += entry->size + RLOG_ENTRY_HEAD + RLOG_RECORD_HEAD;
    }
    ASSERT(bytes == log->bytes);
}

/* Its state, and its entries, as the beginning of a segment tells and those behind it. */
static void tell_again(struct rlog *log)
{
    struct journal_batch batch = {.at = (uint64_t)SEGMENT << 32};
    struct rlog copy, told[LOGS_MAX];
    rlog_put_state(log, &batch);
    rlog_open(&copy, log->partition);
    copy.first = log->first;
    for (uint64_t index = log->first; index <= rlog_last(log); index++) {
        const struct rlog_entry *from = rlog_get(log, index);
        struct rcore_entry entry = {from->term, from->type, span_of(from->bytes, from->size)};
        rlog_put_entries(&copy, &batch, index, &entry, 1);
    }
    for (uint32_t p = 0; p < LOGS_MAX; p++)
        rlog_open(&told[p], p);
    int err = rlog_take(told, LOGS_MAX, batch.at + JOURNAL_HEAD,
                        span_of(batch.p + JOURNAL_HEAD, batch.n - JOURNAL_HEAD));
    ASSERT(err == 0);
    const struct rlog *again = &told[log->partition];
    err = rlog_finish(&told[log->partition]);
    ASSERT(err == 0 && again->first == log->first && again->count == log->count);
    ASSERT(again->term == log->term && again->voted_for == log->voted_for);
    ASSERT(again->snapshot_index == log->snapshot_index && again->bytes == log->bytes);
    ASSERT(again->install.n == log->install.n);
    for (uint64_t index = log->first; index <= rlog_last(log); index++)
        ASSERT(rlog_get(again, index)->at == rlog_get(&copy, index)->at);
    for (uint32_t p = 0; p < LOGS_MAX; p++)
        rlog_close(&told[p]);
    rlog_close(&copy);
    journal_batch_close(&batch);
}

static void check_records(const uint8_t *data, size_t size, unsigned count, bool raw)
{
    struct rlog logs[LOGS_MAX];
    for (uint32_t p = 0; p < count; p++)
        rlog_open(&logs[p], p);
    int err = take_all(logs, count, data, size, raw);
    for (uint32_t p = 0; p < count && err == 0; p++) {
        int end = rlog_finish(&logs[p]);
        ASSERT(end == 0 || end == ERR_CORRUPT || end == ERR_NOT_FOUND);
        if (end != 0)
            continue;
        check_log(&logs[p]);
        tell_again(&logs[p]);
    }
    for (uint32_t p = 0; p < count; p++)
        rlog_close(&logs[p]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] % 2 == 0)
        check_segment(data + 1, size - 1);
    else
        check_records(data + 1, size - 1, 2 + data[0] / 2 % 3, data[0] >= 0xf8);
    return 0;
}
