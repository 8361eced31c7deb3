#include "store/base/item.h"

#include "store/base/field.h"

enum { TAG_AND_SIZE_MAX = 2 * VARINT_MAX };
/* Of wire.proto's Item. */
enum { SEQ = 1, RECORD, LAST, HOLE, EDITED, BODY, REPLIES, FIELDS };

static size_t varint_size(uint64_t v)
{
    size_t n = 1;
    for (; v >= 0x80; v >>= 7)
        n++;
    return n;
}

static size_t number_size(uint64_t v)
{
    return v != 0 ? 1 + varint_size(v) : 0;
}

static size_t bytes_size(const ProtobufCBinaryData *bytes)
{
    return bytes->len > 0 ? 1 + varint_size(bytes->len) + bytes->len : 0;
}

static char *number(char *p, uint32_t field, uint64_t v)
{
    if (v == 0) /* as absent */
        return p;
    *p++ = (char)(field << 3 | WIRE_VARINT);
    return p + put_varint(p, v);
}

static char *bytes(char *p, uint32_t field, const ProtobufCBinaryData *v)
{
    if (v->len == 0)
        return p;
    *p++ = (char)(field << 3 | WIRE_BYTES);
    p += put_varint(p, v->len);
    memcpy(p, v->data, v->len);
    return p + v->len;
}

void items_pack(struct buf *out, uint32_t number_of_items, Loquat__Item *const *items, size_t count)
{
    _Static_assert(FIELDS == 8, "the fields of Item");
    for (size_t i = 0; i < count; i++) {
        const Loquat__Item *item = items[i];
        size_t size = number_size(item->seq) + bytes_size(&item->record) + number_size(item->last) +
                      number_size(item->hole) + number_size(item->edited) +
                      bytes_size(&item->body) + number_size(item->replies);
        buf_reserve(out, TAG_AND_SIZE_MAX + size);
        char *p = out->p + out->n;
        p += put_varint(p, number_of_items << 3 | WIRE_BYTES);
        p += put_varint(p, size);
        p = number(p, SEQ, item->seq);
        p = bytes(p, RECORD, &item->record);
        p = number(p, LAST, item->last);
        p = number(p, HOLE, item->hole);
        p = number(p, EDITED, item->edited);
        p = bytes(p, BODY, &item->body);
        p = number(p, REPLIES, item->replies);
        out->n = (size_t)(p - out->p);
    }
}
