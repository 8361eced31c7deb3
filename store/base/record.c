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
