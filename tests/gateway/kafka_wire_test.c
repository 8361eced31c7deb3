/* Kafka's protocol as bytes: what clients send is taken apart as they mean it, and nothing else is;
 * batches are as the format has them. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "gateway/kafka_wire.h"

static struct arena arena;

static void begin(void)
{
    arena_init(&arena);
}

static void end(void)
{
    arena_close(&arena);
}

TestSuite(kafka_wire, .init = begin, .fini = end);

static void head(struct buf *out, int16_t api, int16_t version)
{
    kafka_i16(out, api);
    kafka_i16(out, version);
    kafka_i32(out, 7);
    kafka_text(out, span_str("me"));
}

static void fetch(struct buf *out)
{
    head(out, KAFKA_FETCH, 4);
    kafka_i32(out, -1);
    kafka_i32(out, 500);
    kafka_i32(out, 1);
    kafka_i32(out, 1000);
    kafka_i8(out, 0);
    kafka_i32(out, 1);
    kafka_text(out, span_str("topic"));
    kafka_i32(out, 2);
    for (int32_t p = 3; p < 5; p++) {
        kafka_i32(out, p);
        kafka_i64(out, 1l << 40);
        kafka_i32(out, 64);
    }
}

Test(kafka_wire, a_fetch)
{
    struct buf bytes = {0};
    struct kafka_request request;
    fetch(&bytes);
    cr_assert(kafka_parse(buf_span(&bytes), &arena, &request));
    cr_assert(eq(i16, request.api, KAFKA_FETCH));
    cr_assert(eq(i32, request.number, 7));
    cr_assert(span_is(request.client, "me"));
    cr_assert(eq(i32, request.wait_ms, 500));
    cr_assert(eq(i32, request.max_bytes, 1000));
    cr_assert(eq(sz, request.topic_count, 1));
    cr_assert(span_is(request.topics[0].name, "topic"));
    cr_assert(eq(sz, request.topics[0].count, 2));
    cr_assert(eq(i32, request.topics[0].parts[1].p, 4));
    cr_assert(eq(i64, request.topics[0].parts[1].offset, 1l << 40));
    cr_assert(eq(i32, request.topics[0].parts[1].max_bytes, 64));
    buf_close(&bytes);
}

Test(kafka_wire, no_byte_less_and_none_more)
{
    struct buf bytes = {0};
    struct kafka_request request;
    fetch(&bytes);
    for (size_t n = 0; n < bytes.n; n++)
        cr_assert(not(kafka_parse(span_of(bytes.p, n), &arena, &request)), "%zu bytes", n);
    buf_add_byte(&bytes, 0);
    cr_assert(not(kafka_parse(buf_span(&bytes), &arena, &request)));
    buf_close(&bytes);
}

Test(kafka_wire, a_count_is_not_believed)
{
    static const int32_t COUNTS[] = {INT32_MAX, INT32_MIN, -2, 1000, 2};
    for (size_t i = 0; i < sizeof COUNTS / sizeof *COUNTS; i++) {
        struct buf bytes = {0};
        struct kafka_request request;
        head(&bytes, KAFKA_METADATA, 1);
        kafka_i32(&bytes, COUNTS[i]);
        kafka_text(&bytes, span_str("one"));
        cr_assert(not(kafka_parse(buf_span(&bytes), &arena, &request)), "%d topics", COUNTS[i]);
        buf_close(&bytes);
    }
}

Test(kafka_wire, all_topics_are_none_of_them)
{
    struct buf bytes = {0};
    struct kafka_request request;
    head(&bytes, KAFKA_METADATA, 1);
    kafka_i32(&bytes, -1);
    cr_assert(kafka_parse(buf_span(&bytes), &arena, &request));
    cr_assert(request.all_topics);
    buf_close(&bytes);
}

Test(kafka_wire, a_join_of_each_version)
{
    for (int16_t version = 0; version <= 2; version++) {
        struct buf bytes = {0};
        struct kafka_request request;
        head(&bytes, KAFKA_JOIN_GROUP, version);
        kafka_text(&bytes, span_str("group"));
        kafka_i32(&bytes, 6000);
        if (version >= 1)
            kafka_i32(&bytes, 9000);
        kafka_text(&bytes, span_str("member"));
        kafka_text(&bytes, span_str("consumer"));
        kafka_i32(&bytes, 1);
        kafka_text(&bytes, span_str("range"));
        kafka_bytes(&bytes, span_str("what"));
        cr_assert(kafka_parse(buf_span(&bytes), &arena, &request));
        cr_assert(span_is(request.group, "group"));
        cr_assert(span_is(request.member, "member"));
        cr_assert(eq(i32, request.session_ms, 6000));
        cr_assert(eq(i32, request.rebalance_ms, version >= 1 ? 9000 : 6000));
        cr_assert(eq(sz, request.pair_count, 1));
        cr_assert(span_is(request.pairs[0].name, "range"));
        cr_assert(span_is(request.pairs[0].bytes, "what"));
        buf_close(&bytes);
    }
}

Test(kafka_wire, only_what_is_spoken)
{
    cr_assert(kafka_speaks(KAFKA_FETCH, 4));
    cr_assert(not(kafka_speaks(KAFKA_FETCH, 3)));
    cr_assert(not(kafka_speaks(KAFKA_FETCH, 5)));
    cr_assert(not(kafka_speaks(4, 0)));
    cr_assert(not(kafka_speaks(-1, 0)));
    cr_assert(not(kafka_speaks(KAFKA_API_VERSIONS, -1)));
    struct buf old = {0}, flexible = {0};
    kafka_say_versions(&old, 0, 0);
    kafka_say_versions(&flexible, 3, 0);
    int16_t count = (int16_t)get_be16(old.p + 4);
    cr_assert(eq(sz, old.n, 6 + 6 * (size_t)count));
    cr_assert(eq(sz, flexible.n, 2 + 1 + 7 * (size_t)count + 4 + 1));
    buf_close(&old);
    buf_close(&flexible);
}

Test(kafka_wire, a_password)
{
    struct span password = {0};
    cr_assert(kafka_plain(span_of("who\0user\0word", 13), &password));
    cr_assert(span_is(password, "word"));
    cr_assert(kafka_plain(span_of("\0\0", 2), &password));
    cr_assert(eq(sz, password.n, 0));
    cr_assert(not(kafka_plain(span_of("\0user", 5), &password)));
    cr_assert(not(kafka_plain(span_of("", 0), &password)));
}

/* ---- batches ---- */

TestSuite(kafka_batch);

Test(kafka_batch, the_checksum_is_castagnolis)
{
    char zeros[32] = {0};
    cr_assert(eq(u32, kafka_crc32c(span_str("123456789")), 0xe3069283));
    cr_assert(eq(u32, kafka_crc32c(span_of(zeros, sizeof zeros)), 0x8a9136aa)); /* RFC 3720, B.4 */
    cr_assert(eq(u32, kafka_crc32c(span_of("", 0)), 0));
}

static uint32_t be32(const char *p)
{
    return (uint32_t)get_be16(p) << 16 | get_be16(p + 2);
}

Test(kafka_batch, with_gaps_between_its_records)
{
    struct buf out = {0};
    struct kafka_batch batch;
    buf_add_str(&out, "before");
    kafka_batch_begin(&batch, &out);
    cr_assert(kafka_batch_add(&batch, 4096, 1000, span_str("k"), span_str("one")));
    cr_assert(kafka_batch_add(&batch, 8193, 900, span_str("k"), span_str("two")));
    cr_assert(not(kafka_batch_add(&batch, 4096 + (1ul << 31), 1000, span_str("k"), span_str(""))));
    kafka_batch_end(&batch);
    const char *p = out.p + 6;
    size_t n = out.n - 6;
    cr_assert(eq(u64, get_be64(p), 4096));
    cr_assert(eq(u32, be32(p + 8), (uint32_t)n - 12));
    cr_assert(eq(i8, (int8_t)p[16], 2));
    cr_assert(eq(u32, be32(p + 17), kafka_crc32c(span_of(p + 21, n - 21))));
    cr_assert(eq(u32, be32(p + 23), 8193 - 4096));
    cr_assert(eq(u64, get_be64(p + 27), 1000));
    cr_assert(eq(u64, get_be64(p + 35), 1000));
    cr_assert(eq(u32, be32(p + 57), 2));
    /* Length, attributes, time, offset, key, value, headers; signs are in the lowest bit. */
    static const char RECORDS[] = "\x14\0\0\0\x02k\x06one\0"
                                  "\x18\0\xc7\x01\x82\x40\x02k\x06two\0";
    cr_assert(eq(sz, n - 61, sizeof RECORDS - 1));
    cr_assert(eq(int, memcmp(p + 61, RECORDS, sizeof RECORDS - 1), 0));
    buf_close(&out);
}

Test(kafka_batch, without_records_it_is_nothing)
{
    struct buf out = {0};
    struct kafka_batch batch;
    kafka_batch_begin(&batch, &out);
    kafka_batch_end(&batch);
    cr_assert(eq(sz, out.n, 0));
    buf_close(&out);
}
