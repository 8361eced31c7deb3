#include "store/base/record.h"

#include <xxhash.h>

#include "store/base/err.h"
#include "store/base/field.h"
#include "store/base/ids.h"
#include "store/base/wire.h"

enum { XKIND_MAX = 32 };

void record_encode(const Loquat__Record *record, struct buf *out)
{
    size_t start = out->n;
    buf_grow(out, RECORD_HEAD_SIZE);
    record_pack(record, out);
    char *p = out->p + start;
    size_t size = out->n - start - RECORD_HEAD_SIZE;
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

/* ---- without unpacking ---- */

enum { FIELD_MENTION = 11 };

/* A number into its field. False: this field is none. */
static bool take_number(struct record_view *out, uint64_t field, uint64_t value)
{
    switch (field) { /* of wire.proto's Record */
    case 1:
        out->ts = value;
        return true;
    case 2:
        out->mid_off = (int64_t)(value >> 1 ^ -(value & 1)); /* zigzag */
        return true;
    case 3:
        out->gap = value;
        return true;
    case 4:
        out->kind = (uint32_t)value;
        return true;
    case 9:
        out->reply = value;
        return true;
    case 10:
        out->thread = value;
        return true;
    case 12:
        out->mention_all = value != 0;
        return true;
    case 13:
        out->expires = value;
        return true;
    case 14:
        out->target = value;
        return true;
    case 15:
        out->erased = value != 0;
        return true;
    case 16:
        out->stripped = value != 0;
        return true;
    case 18:
        out->on = value != 0;
        return true;
    default:
        return field > 16;
    }
}

static bool take_bytes(struct record_view *out, uint64_t field, struct span value)
{
    switch (field) {
    case 5:
        out->xkind = value;
        return true;
    case 6:
        out->from = value;
        return true;
    case 7:
        out->body = value;
        return true;
    case 8:
        out->cid = value;
        return true;
    case 17:
        out->emoji = value;
        return true;
    default:
        return field == FIELD_MENTION || field > 16;
    }
}

int record_view(struct span bytes, struct record_view *out)
{
    *out = (struct record_view){0};
    int err = record_check(bytes);
    if (err != 0)
        return err;
    struct span rest = span_of(bytes.p + RECORD_HEAD_SIZE, bytes.n - RECORD_HEAD_SIZE);
    while (rest.n > 0) {
        struct span before = rest, value = {0};
        uint64_t number = 0, tag = 0;
        bool fine = field_next(&rest, &tag, &value, &number) && tag >> 3 > 0;
        uint64_t field = tag >> 3;
        if (fine && (tag & 7) == WIRE_VARINT)
            fine = take_number(out, field, number);
        else if (fine && (tag & 7) == WIRE_BYTES)
            fine = take_bytes(out, field, value);
        else if (fine)
            fine = field > 16;
        if (!fine)
            return ERR_CORRUPT;
        if (field == FIELD_MENTION && out->mentions.n == 0)
            out->mentions = before;
    }
    return 0;
}

bool record_mention(struct span *rest, struct span *user)
{
    while (rest->n > 0) {
        uint64_t number = 0, tag = 0;
        if (!field_next(rest, &tag, user, &number))
            return false; /* record_view has refused such a record */
        if (tag == (FIELD_MENTION << 3 | WIRE_BYTES))
            return true;
    }
    return false;
}

uint64_t record_mid(uint64_t ts, int64_t mid_off, uint32_t partition)
{
    /* mid_off = (ms of the mid - ts) * 4096 + counter */
    uint64_t ms = ts + (uint64_t)(mid_off >> 12);
    return mid_make(ms, partition, (uint32_t)(mid_off & 4095));
}

static const struct {
    uint32_t kind;
    const char *name;
} kinds[] = {
    {LOQUAT__KIND__KIND_TEXT, "text"},     {LOQUAT__KIND__KIND_IMAGE, "image"},
    {LOQUAT__KIND__KIND_FILE, "file"},     {LOQUAT__KIND__KIND_X, "x"},
    {LOQUAT__KIND__KIND_EDIT, "edit"},     {LOQUAT__KIND__KIND_DELETE, "delete"},
    {LOQUAT__KIND__KIND_REACT, "react"},   {LOQUAT__KIND__KIND_PIN, "pin"},
    {LOQUAT__KIND__KIND_MEMBER, "member"}, {LOQUAT__KIND__KIND_META, "meta"},
    {LOQUAT__KIND__KIND_JOINED, "joined"}, {LOQUAT__KIND__KIND_LEFT, "left"},
    {LOQUAT__KIND__KIND_READ, "read"},     {LOQUAT__KIND__KIND_PREFS, "prefs"},
    {LOQUAT__KIND__KIND_INVITE, "invite"}, {LOQUAT__KIND__KIND_UNINVITE, "uninvite"},
    {LOQUAT__KIND__KIND_BLOCK, "block"},   {LOQUAT__KIND__KIND_PRIVACY, "privacy"},
    {LOQUAT__KIND__KIND_HIDE, "hide"},
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

uint32_t record_hole(const struct record_view *record, uint64_t now_ms)
{
    if (record->expires != 0 && record->expires <= now_ms)
        return LOQUAT__HOLE__HOLE_EXPIRED;
    if (record->erased)
        return LOQUAT__HOLE__HOLE_ERASED;
    if (record->stripped && kind_is_message(record->kind)) /* expired, by another clock */
        return LOQUAT__HOLE__HOLE_EXPIRED;
    if (record->stripped || record->kind == LOQUAT__KIND__KIND_NONE)
        return LOQUAT__HOLE__HOLE_COMPACTED;
    return LOQUAT__HOLE__HOLE_NONE;
}
