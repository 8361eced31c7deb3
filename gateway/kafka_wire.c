#include "gateway/kafka_wire.h"

/* ---- reading ---- */

/* What is left of a request; once something is missing all else is empty. */
struct reader {
    struct span rest;
    struct arena *arena;
    bool bad;
};

static struct span take(struct reader *r, size_t n)
{
    if (r->bad || n > r->rest.n) {
        r->bad = true;
        return (struct span){0};
    }
    struct span taken = span_of(r->rest.p, n);
    r->rest = span_of(r->rest.p + n, r->rest.n - n);
    return taken;
}

static int64_t take_number(struct reader *r, size_t size)
{
    struct span bytes = take(r, size);
    uint64_t v = bytes.n > 0 && (bytes.p[0] & 0x80) != 0 ? UINT64_MAX : 0;
    for (size_t i = 0; i < bytes.n; i++)
        v = v << 8 | (uint8_t)bytes.p[i];
    return (int64_t)v;
}

static int32_t take_i32(struct reader *r)
{
    return (int32_t)take_number(r, 4);
}

/* -1 stands for none, where that may be. */
static struct span take_sized(struct reader *r, int64_t n, bool none)
{
    if (n < 0 && !(none && n == -1))
        r->bad = true;
    return n > 0 ? take(r, (size_t)n) : (struct span){0};
}

static struct span take_text(struct reader *r)
{
    return take_sized(r, take_number(r, 2), false);
}

static struct span take_text_or_none(struct reader *r)
{
    return take_sized(r, take_number(r, 2), true);
}

static struct span take_bytes(struct reader *r)
{
    return take_sized(r, take_number(r, 4), true);
}

/* How many there are; each has `least` bytes. */
static size_t take_count(struct reader *r, size_t least, size_t most)
{
    int32_t n = take_i32(r);
    if (n < 0 || (size_t)n > most || (size_t)n > r->rest.n / least)
        r->bad = true;
    return r->bad ? 0 : (size_t)n;
}

static void take_part(struct reader *r, int16_t api, struct kafka_part *part)
{
    *part = (struct kafka_part){.p = take_i32(r)};
    if (api == KAFKA_PRODUCE)
        (void)take_bytes(r); /* records: nobody looks at them */
    if (api == KAFKA_PRODUCE || api == KAFKA_OFFSET_FETCH)
        return;
    part->offset = take_number(r, 8);
    if (api == KAFKA_FETCH)
        part->max_bytes = take_i32(r);
    if (api == KAFKA_OFFSET_COMMIT)
        (void)take_text_or_none(r); /* its metadata */
}

static void take_topics(struct reader *r, struct kafka_request *request)
{
    size_t left = KAFKA_PARTS_MAX;
    request->topic_count = take_count(r, 2, KAFKA_TOPICS_MAX);
    request->topics = arena_alloc(r->arena, request->topic_count * sizeof *request->topics + 1);
    for (size_t i = 0; i < request->topic_count; i++) {
        struct kafka_topic *topic = &request->topics[i];
        *topic = (struct kafka_topic){.name = take_text(r)};
        if (request->api == KAFKA_METADATA)
            continue;
        topic->count = take_count(r, 4, left);
        left -= topic->count;
        topic->parts = arena_alloc(r->arena, topic->count * sizeof *topic->parts + 1);
        for (size_t j = 0; j < topic->count; j++)
            take_part(r, request->api, &topic->parts[j]);
    }
}

static bool takes_none(struct reader *r) /* instead of an array */
{
    if (r->rest.n < 4 || memcmp(r->rest.p, "\xff\xff\xff\xff", 4) != 0)
        return false;
    take(r, 4);
    return true;
}

static void take_topics_or_all(struct reader *r, struct kafka_request *request)
{
    request->all_topics = takes_none(r);
    if (!request->all_topics)
        take_topics(r, request);
}

static void take_pairs(struct reader *r, struct kafka_request *request)
{
    request->pair_count = take_count(r, 6, KAFKA_PAIRS_MAX);
    request->pairs = arena_alloc(r->arena, request->pair_count * sizeof *request->pairs + 1);
    for (size_t i = 0; i < request->pair_count; i++) {
        request->pairs[i].name = take_text(r);
        request->pairs[i].bytes = take_bytes(r);
    }
}

static void take_member(struct reader *r, struct kafka_request *request)
{
    request->group = take_text(r);
    request->generation = take_i32(r);
    request->member = take_text(r);
}

static void take_join(struct reader *r, struct kafka_request *request)
{
    request->group = take_text(r);
    request->session_ms = take_i32(r);
    request->rebalance_ms = request->version >= 1 ? take_i32(r) : request->session_ms;
    request->member = take_text(r);
    request->protocol_type = take_text(r);
    take_pairs(r, request);
}

static void take_fetch(struct reader *r, struct kafka_request *request)
{
    take_i32(r); /* of replicas */
    request->wait_ms = take_i32(r);
    request->min_bytes = take_i32(r);
    request->max_bytes = take_i32(r);
    take(r, 1); /* of transactions */
    take_topics(r, request);
}

static void take_body(struct reader *r, struct kafka_request *request)
{
    switch (request->api) {
    case KAFKA_PRODUCE:
        (void)take_text_or_none(r); /* of transactions */
        request->acks = (int16_t)take_number(r, 2);
        take_i32(r);
        take_topics(r, request);
        break;
    case KAFKA_FETCH:
        take_fetch(r, request);
        break;
    case KAFKA_LIST_OFFSETS:
        take_i32(r);
        take_topics(r, request);
        break;
    case KAFKA_METADATA:
        take_topics_or_all(r, request);
        if (request->version >= 4)
            take(r, 1); /* whether topics may be made */
        break;
    case KAFKA_OFFSET_COMMIT:
        take_member(r, request);
        take(r, 8); /* how long it is kept: as long as the consumer */
        take_topics(r, request);
        break;
    case KAFKA_OFFSET_FETCH:
        request->group = take_text(r);
        request->version >= 2 ? take_topics_or_all(r, request) : take_topics(r, request);
        break;
    case KAFKA_FIND_COORDINATOR:
        request->group = take_text(r);
        break;
    case KAFKA_JOIN_GROUP:
        take_join(r, request);
        break;
    case KAFKA_HEARTBEAT:
        take_member(r, request);
        break;
    case KAFKA_LEAVE_GROUP:
        request->group = take_text(r);
        request->member = take_text(r);
        break;
    case KAFKA_SYNC_GROUP:
        take_member(r, request);
        take_pairs(r, request);
        break;
    case KAFKA_SASL_HANDSHAKE:
        request->sasl = take_text(r);
        break;
    case KAFKA_SASL_AUTHENTICATE:
        request->sasl = take_bytes(r);
        break;
    default: /* ApiVersions: who asks, from version 3 on */
        if (request->version >= 3)
            take(r, r->rest.n);
    }
}

struct api {
    int16_t key, low, high;
};
static const struct api APIS[] = {
#define X(name, key, low, high, label) {key, low, high},
    KAFKA_APIS(X)
#undef X
};
enum { API_COUNT = sizeof APIS / sizeof *APIS };

bool kafka_speaks(int16_t api, int16_t version)
{
    for (size_t i = 0; i < API_COUNT; i++)
        if (APIS[i].key == api)
            return version >= APIS[i].low && version <= APIS[i].high;
    return false;
}

bool kafka_parse(struct span bytes, struct arena *arena, struct kafka_request *request)
{
    struct reader r = {.rest = bytes, .arena = arena};
    *request = (struct kafka_request){0};
    request->api = (int16_t)take_number(&r, 2);
    request->version = (int16_t)take_number(&r, 2);
    request->number = take_i32(&r);
    if (r.bad || !kafka_speaks(request->api, request->version))
        return false;
    request->client = take_text_or_none(&r);
    take_body(&r, request);
    return !r.bad && r.rest.n == 0;
}

bool kafka_plain(struct span bytes, struct span *password)
{
    const char *end = bytes.p + bytes.n;
    const char *user = bytes.n > 0 ? memchr(bytes.p, '\0', bytes.n) : NULL;
    const char *word = user != NULL ? memchr(user + 1, '\0', (size_t)(end - user - 1)) : NULL;
    if (word == NULL)
        return false;
    *password = span_of(word + 1, (size_t)(end - word - 1));
    return true;
}

/* ---- writing ---- */

static void put_number(struct buf *out, uint64_t v, size_t size)
{
    char *p = buf_grow(out, size);
    for (size_t i = size; i-- > 0; v >>= 8)
        p[i] = (char)(v & 0xff);
}

void kafka_i8(struct buf *out, int8_t v)
{
    buf_add_byte(out, (uint8_t)v);
}

void kafka_i16(struct buf *out, int16_t v)
{
    put_number(out, (uint64_t)v, 2);
}

void kafka_i32(struct buf *out, int32_t v)
{
    put_number(out, (uint64_t)v, 4);
}

void kafka_i64(struct buf *out, int64_t v)
{
    put_number(out, (uint64_t)v, 8);
}

void kafka_text(struct buf *out, struct span text)
{
    kafka_i16(out, (int16_t)text.n);
    buf_add_span(out, text);
}

void kafka_no_text(struct buf *out)
{
    kafka_i16(out, -1);
}

void kafka_bytes(struct buf *out, struct span bytes)
{
    kafka_i32(out, (int32_t)bytes.n);
    buf_add_span(out, bytes);
}

size_t kafka_length(struct buf *out)
{
    kafka_i32(out, 0);
    return out->n;
}

static void put_be32(char *p, uint32_t v)
{
    v = __builtin_bswap32(v);
    memcpy(p, &v, 4);
}

void kafka_length_is(struct buf *out, size_t at)
{
    put_be32(out->p + at - 4, (uint32_t)(out->n - at));
}

void kafka_say_versions(struct buf *out, int16_t version, int16_t err)
{
    bool flexible = version >= 3;
    kafka_i16(out, err);
    if (flexible)
        buf_add_varint(out, API_COUNT + 1);
    else
        kafka_i32(out, API_COUNT);
    for (size_t i = 0; i < API_COUNT; i++) {
        kafka_i16(out, APIS[i].key);
        kafka_i16(out, APIS[i].low);
        kafka_i16(out, APIS[i].high);
        if (flexible)
            buf_add_byte(out, 0); /* no tagged fields */
    }
    if (version >= 1)
        kafka_i32(out, 0); /* no throttling */
    if (flexible)
        buf_add_byte(out, 0);
}

/* ---- batches ---- */

enum {
    BATCH_CRC = 17,     /* where the checksum is */
    BATCH_CHECKED = 21, /* what it is of begins here */
    BATCH_HEAD = 61,
    BATCH_LENGTH_FROM = 12, /* what the length counts */
};

static void add_zigzag(struct buf *out, int64_t v)
{
    buf_add_varint(out, (uint64_t)v << 1 ^ (v < 0 ? UINT64_MAX : 0));
}

void kafka_batch_begin(struct kafka_batch *batch, struct buf *out)
{
    *batch = (struct kafka_batch){.out = out, .at = out->n};
    memset(buf_grow(out, BATCH_HEAD), 0, BATCH_HEAD);
}

bool kafka_batch_add(struct kafka_batch *batch, uint64_t offset, int64_t ms, struct span key,
                     struct span value)
{
    struct buf *record = &batch->record;
    if (batch->count == 0) {
        batch->first = offset;
        batch->first_ms = batch->max_ms = ms;
    }
    if (offset - batch->first > INT32_MAX)
        return false;
    record->n = 0;
    buf_add_byte(record, 0); /* no attributes */
    add_zigzag(record, ms - batch->first_ms);
    add_zigzag(record, (int64_t)(offset - batch->first));
    add_zigzag(record, (int64_t)key.n);
    buf_add_span(record, key);
    add_zigzag(record, (int64_t)value.n);
    buf_add_span(record, value);
    add_zigzag(record, 0); /* no headers */
    add_zigzag(batch->out, (int64_t)record->n);
    buf_add_span(batch->out, buf_span(record));
    batch->last = offset;
    batch->max_ms = ms > batch->max_ms ? ms : batch->max_ms;
    batch->count++;
    return true;
}

size_t kafka_batch_bytes(const struct kafka_batch *batch)
{
    return batch->out->n - batch->at;
}

static void put_head(const struct kafka_batch *batch, char *p)
{
    size_t n = kafka_batch_bytes(batch);
    put_be64(p, batch->first);
    put_be32(p + 8, (uint32_t)(n - BATCH_LENGTH_FROM));
    p[16] = 2; /* the format */
    put_be32(p + 23, (uint32_t)(batch->last - batch->first));
    put_be64(p + 27, (uint64_t)batch->first_ms);
    put_be64(p + 35, (uint64_t)batch->max_ms);
    memset(p + 43, 0xff, 14); /* no producer: its id, epoch, number */
    put_be32(p + 57, (uint32_t)batch->count);
    put_be32(p + BATCH_CRC, kafka_crc32c(span_of(p + BATCH_CHECKED, n - BATCH_CHECKED)));
}

void kafka_batch_end(struct kafka_batch *batch)
{
    if (batch->count == 0)
        batch->out->n = batch->at;
    else
        put_head(batch, batch->out->p + batch->at);
    buf_close(&batch->record);
}

/* Castagnoli's polynomial, bit by bit reversed; four bits a step. */
uint32_t kafka_crc32c(struct span bytes)
{
    static const uint32_t STEP[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1,
                                      0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
                                      0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
                                      0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < bytes.n; i++) {
        crc ^= (uint8_t)bytes.p[i];
        crc = crc >> 4 ^ STEP[crc & 15];
        crc = crc >> 4 ^ STEP[crc & 15];
    }
    return ~crc;
}
