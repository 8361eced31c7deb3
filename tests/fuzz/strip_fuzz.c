/* Stripping what stands on disk: any bytes are safe to look at, what the state machine reads stays
 * as it was, and a second time changes nothing. First byte: 0 a fold, else a record (its checksum
 * is made). */
#include <stdlib.h>

#include "compaction/strip.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_same(const Loquat__Record *before, struct span stub)
{
    Loquat__Record *after = NULL;
    int err = record_decode(stub, NULL, &after);
    ASSERT(err == 0 && after->stripped && after->body.len == 0 && after->n_mentions == 0);
    ASSERT(after->ts == before->ts && after->mid_off == before->mid_off);
    ASSERT(after->gap == before->gap && after->kind == before->kind);
    ASSERT(after->thread == before->thread && after->target == before->target);
    ASSERT(after->expires == before->expires && after->erased == before->erased);
    ASSERT(strcmp(after->from, before->from) == 0 && strcmp(after->cid, before->cid) == 0);
    loquat__record__free_unpacked(after, NULL);
}

static void check_record(const uint8_t *data, size_t size)
{
    Loquat__Record *record = loquat__record__unpack(NULL, size, data);
    if (record == NULL)
        return;
    struct buf bytes = {0}, once = {0}, twice = {0};
    record_encode(record, &bytes);
    ASSERT(record->base.n_unknown_fields > 0 || strip_expires(buf_span(&bytes)) == record->expires);
    int err = strip_record(buf_span(&bytes), &once);
    if (record->base.n_unknown_fields > 0) { /* of a newer program, or no field at all */
        ASSERT(err == ERR_VERSION || err == ERR_CORRUPT);
    } else {
        ASSERT(err == 0);
        expect_same(record, buf_span(&once));
        err = strip_record(buf_span(&once), &twice);
        ASSERT(err == 0 && span_eq(buf_span(&once), buf_span(&twice)));
    }
    loquat__record__free_unpacked(record, NULL);
    buf_close(&bytes);
    buf_close(&once);
    buf_close(&twice);
}

static void check_fold(struct span bytes)
{
    struct buf once = {0}, twice = {0};
    int err = strip_fold(bytes, &once);
    ASSERT(err == 0 || err == ERR_CORRUPT || err == ERR_VERSION);
    if (err == 0) {
        err = strip_fold(buf_span(&once), &twice);
        ASSERT(err == 0 && span_eq(buf_span(&once), buf_span(&twice)));
    }
    buf_close(&once);
    buf_close(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct buf raw = {0};
    buf_add_byte(&raw, RECORD_VERSION);
    buf_add(&raw, data + 1, size - 1);
    strip_expires(buf_span(&raw));
    buf_close(&raw);
    if (data[0] == 0)
        check_fold(span_of(data + 1, size - 1));
    else
        check_record(data + 1, size - 1);
    return 0;
}
