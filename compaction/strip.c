#include "compaction/strip.h"

#include "store/base/err.h"
#include "store/base/record.h"

enum { FIELD_EXPIRES = 13, WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

/* Steps over one field's value. False: the bytes end early or are not understood. */
static bool skip(struct span *at, uint64_t wire)
{
    uint64_t size = 0;
    size_t head = 0;
    switch (wire) {
    case WIRE_VARINT:
        head = get_varint(at->p, at->n, &size);
        if (head == 0)
            return false;
        size = head;
        break;
    case WIRE_64:
        size = 8;
        break;
    case WIRE_BYTES:
        head = get_varint(at->p, at->n, &size);
        if (head == 0 || size > at->n - head)
            return false;
        size += head;
        break;
    case WIRE_32:
        size = 4;
        break;
    default:
        return false;
    }
    if (size > at->n)
        return false;
    *at = span_of(at->p + size, at->n - size);
    return true;
}

uint64_t strip_expires(struct span record)
{
    if (record.n < RECORD_HEAD_SIZE || record.p[0] != RECORD_VERSION)
        return 0;
    struct span at = span_of(record.p + RECORD_HEAD_SIZE, record.n - RECORD_HEAD_SIZE);
    while (at.n > 0) {
        uint64_t tag = 0, value = 0;
        size_t head = get_varint(at.p, at.n, &tag);
        if (head == 0)
            return 0;
        at = span_of(at.p + head, at.n - head);
        if (tag == (FIELD_EXPIRES << 3 | WIRE_VARINT))
            return get_varint(at.p, at.n, &value) > 0 ? value : 0;
        if (!skip(&at, tag & 7))
            return 0;
    }
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
