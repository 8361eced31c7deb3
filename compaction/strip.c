#include "compaction/strip.h"

#include "store/base/err.h"
#include "store/base/field.h"
#include "store/base/record.h"

enum { FIELD_EXPIRES = 13 };

uint64_t strip_expires(struct span record)
{
    if (record.n < RECORD_HEAD_SIZE || record.p[0] != RECORD_VERSION)
        return 0;
    struct span at = span_of(record.p + RECORD_HEAD_SIZE, record.n - RECORD_HEAD_SIZE), bytes;
    uint64_t tag = 0, value = 0;
    while (at.n > 0 && field_next(&at, &tag, &bytes, &value))
        if (tag == (FIELD_EXPIRES << 3 | WIRE_VARINT))
            return value;
    return 0;
}

int strip_record(struct span bytes, struct buf *out)
{
    Loquat__Record *record = NULL;
    int err = record_decode(bytes, NULL, &record);
    if (err != 0)
        return err;
    if (record->base.n_unknown_fields > 0) {
        loquat__record__free_unpacked(record, NULL);
        return ERR_VERSION;
    }
    Loquat__Record stub = LOQUAT__RECORD__INIT;
    stub.ts = record->ts;
    stub.mid_off = record->mid_off;
    stub.gap = record->gap;
    stub.kind = record->kind;
    stub.from = record->from;
    stub.cid = record->cid;
    stub.thread = record->thread;
    stub.expires = record->expires;
    stub.target = record->target;
    stub.erased = record->erased;
    stub.stripped = true;
    out->n = 0;
    record_encode(&stub, out);
    loquat__record__free_unpacked(record, NULL);
    return 0;
}

int strip_fold(struct span bytes, struct buf *out)
{
    Loquat__Fold *fold = loquat__fold__unpack(NULL, bytes.n, (const uint8_t *)bytes.p);
    if (fold == NULL)
        return ERR_CORRUPT;
    if (fold->base.n_unknown_fields > 0) {
        loquat__fold__free_unpacked(fold, NULL);
        return ERR_VERSION;
    }
    Loquat__Fold left = LOQUAT__FOLD__INIT;
    left.edited = fold->edited;
    left.edit_seq = fold->edit_seq;
    left.erased = fold->erased;
    left.replies = fold->replies;
    out->n = 0;
    loquat__fold__pack(&left, (uint8_t *)buf_grow(out, loquat__fold__get_packed_size(&left)));
    loquat__fold__free_unpacked(fold, NULL);
    return 0;
}
