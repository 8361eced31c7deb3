#include "store/base/record.h"

#include <xxhash.h>

#include "store/base/err.h"
#include "store/base/ids.h"

enum { XKIND_MAX = 32 };

void record_encode(const Loquat__Record *record, struct buf *out)
{
    size_t size = loquat__record__get_packed_size(record);
    char *p = buf_grow(out, RECORD_HEAD_SIZE + size);
    loquat__record__pack(record, (uint8_t *)p + RECORD_HEAD_SIZE);
    p[0] = RECORD_VERSION;
    put_le32(p + 1, (uint32_t)XXH3_64bits(p + RECORD_HEAD_SIZE, size));
}

int record_check(struct span bytes)
{
    if (bytes.n < RECORD_HEAD_SIZE || bytes.p[0] != RECORD_VERSION)
        return ERR_CORRUPT;
    uint32_t sum = (uint32_t)XXH3_64bits(bytes.p + RECORD_HEAD_SIZE, bytes.n - RECORD_HEAD_SIZE);
    return sum == get_le32(bytes.p + 1) ? 0 : ERR_CORRUPT;
}

int record_decode(struct span bytes, ProtobufCAllocator *allocator, Loquat__Record **record)
{
    int err = record_check(bytes);
    if (err != 0)
        return err;
    *record = loquat__record__unpack(allocator, bytes.n - RECORD_HEAD_SIZE,
                                     (const uint8_t *)bytes.p + RECORD_HEAD_SIZE);
    return *record != NULL ? 0 : ERR_CORRUPT;
}

/* Fields of wire.proto's Record that are looked for. */
enum { FIELD_KIND = 4, FIELD_EXPIRES = 13, FIELD_ERASED = 15, FIELD_STRIPPED = 16 };
enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

static bool is_number(uint64_t field)
{
    return field == FIELD_KIND || field == FIELD_EXPIRES || field == FIELD_ERASED ||
           field == FIELD_STRIPPED;
}

static void take_field(struct record_peek *out, uint64_t field, uint64_t value)
{
    switch (field) {
    case FIELD_KIND:
        out->kind = (uint32_t)value;
        break;
    case FIELD_EXPIRES:
        out->expires = value;
        break;
    case FIELD_ERASED:
        out->erased = value != 0;
        break;
    case FIELD_STRIPPED:
        out->stripped = value != 0;
        break;
    default:
        break;
    }
}

/* Of any varint, also one that no number of 64 bits has: 0 when it does not end. */
static size_t varint_size(const char *p, size_t n)
{
    for (size_t i = 0; i < n && i < VARINT_MAX; i++)
        if ((p[i] & 0x80) == 0)
            return i + 1;
    return 0;
}

int record_peek(struct span bytes, struct record_peek *out)
{
    *out = (struct record_peek){0};
    int err = record_check(bytes);
    if (err != 0)
        return err;
    const char *p = bytes.p + RECORD_HEAD_SIZE;
    size_t n = bytes.n - RECORD_HEAD_SIZE;
    while (n > 0) {
        uint64_t tag = 0, value = 0;
        size_t size = get_varint(p, n, &tag), more = 0;
        p += size;
        n -= size;
        switch (size > 0 ? tag & 7 : WIRE_BYTES + 1) {
        case WIRE_VARINT:
            more = varint_size(p, n);
            if (is_number(tag >> 3) && get_varint(p, n, &value) != more)
                return ERR_CORRUPT;
            take_field(out, tag >> 3, value);
            break;
        case WIRE_BYTES:
            size = get_varint(p, n, &value);
            more = size > 0 && value <= n - size ? size + (size_t)value : 0;
            break;
        case WIRE_64:
            more = 8;
            break;
        case WIRE_32:
            more = 4;
            break;
        default:
            break;
        }
        if (more == 0 || more > n || ((tag & 7) != WIRE_VARINT && is_number(tag >> 3)))
            return ERR_CORRUPT;
        p += more;
        n -= more;
    }
    return 0;
}

uint64_t record_mid(const Loquat__Record *record, uint32_t partition)
{
    /* mid_off = (ms of the mid - ts) * 4096 + counter */
    uint64_t ms = record->ts + (uint64_t)(record->mid_off >> 12);
    return mid_make(ms, partition, (uint32_t)(record->mid_off & 4095));
}

static const struct {
    uint32_t kind;
    const char *name;
} kinds[] = {
    {LOQUAT__KIND__KIND_TEXT, "text"},     {LOQUAT__KIND__KIND_IMAGE, "image"},
    {LOQUAT__KIND__KIND_FILE, "file"},     {LOQUAT__KIND__KIND_X, "x"},
    {LOQUAT__KIND__KIND_EDIT, "edit"},     {LOQUAT__KIND__KIND_DELETE, "delete"},
    {LOQUAT__KIND__KIND_MEMBER, "member"}, {LOQUAT__KIND__KIND_META, "meta"},
    {LOQUAT__KIND__KIND_JOINED, "joined"}, {LOQUAT__KIND__KIND_LEFT, "left"},
    {LOQUAT__KIND__KIND_READ, "read"},
};

const char *kind_name(uint32_t kind)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (kinds[i].kind == kind)
            return kinds[i].name;
    return NULL;
}

static bool xkind_valid(struct span name)
{
    if (name.n == 0 || name.n > XKIND_MAX)
        return false;
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
            return false;
    }
    return true;
}

uint32_t kind_of(struct span name, struct span *xkind)
{
    *xkind = (struct span){0};
    if (name.n > 2 && name.p[0] == 'x' && name.p[1] == '-') {
        *xkind = span_of(name.p + 2, name.n - 2);
        return xkind_valid(*xkind) ? LOQUAT__KIND__KIND_X : LOQUAT__KIND__KIND_NONE;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (kinds[i].kind != LOQUAT__KIND__KIND_X && span_is(name, kinds[i].name))
            return kinds[i].kind;
    return LOQUAT__KIND__KIND_NONE;
}

static const char *const roles[] = {"none", "member", "admin", "owner"};
static const char *const holes[] = {"none", "erased", "expired", "hidden", "compacted", "trimmed"};

const char *role_name(uint32_t role)
{
    return roles[role < sizeof roles / sizeof roles[0] ? role : 0];
}

uint32_t role_of(struct span name)
{
    for (uint32_t i = 1; i < sizeof roles / sizeof roles[0]; i++)
        if (span_is(name, roles[i]))
            return i;
    return LOQUAT__ROLE__ROLE_NONE;
}

const char *hole_name(uint32_t hole)
{
    return holes[hole < sizeof holes / sizeof holes[0] ? hole : 0];
}
