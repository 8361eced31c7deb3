/* Damage planted beside the logs: feeds, consumers, what was applied. */
#include "tests/compaction/verify_lib.h"

TestSuite(verify_beside, .init = setup, .fini = teardown, .timeout = 60);

Test(verify_beside, feed_ahead_of_what_was_applied)
{
    value.n = 0;
    put(KV_FEED, key_number(partition, 1000000));
    expect(KV_FEED, "", 1000000, "ahead");
}

Test(verify_beside, feed_that_is_no_list_of_runs)
{
    value.n = 0;
    buf_add_str(&value, "too short");
    put(KV_FEED, key_number(partition, 1));
    expect(KV_FEED, "", 1, "can't be read");
}

Test(verify_beside, applied_index_that_is_none)
{
    value.n = 0;
    buf_add_str(&value, "x");
    put(KV_APL, key_partition(partition));
    expect(KV_APL, "", 0, "applied index");
}

Test(verify_beside, consumers_that_are_none)
{
    Loquat__Cursor cursor = LOQUAT__CURSOR__INIT;
    struct key key = key_named(partition, KEY_TAG_CURSOR, span_str("job"));
    char packed[64];
    cursor.offset = UINT64_MAX >> 1;
    value.n = 0;
    buf_add_span(&value, span_of(packed, loquat__cursor__pack(&cursor, (uint8_t *)packed)));
    put(KV_APL, key);
    expect(KV_APL, "", 0, "consumer");
}

static void put_consumer(const char *key_name)
{
    Loquat__Consumer consumer = LOQUAT__CONSUMER__INIT;
    char packed[64];
    consumer.name = (char *)(uintptr_t) "job";
    value.n = 0;
    buf_add_span(&value, span_of(packed, loquat__consumer__pack(&consumer, (uint8_t *)packed)));
    put(KV_APL, key_named(0, KEY_TAG_CONSUMER, span_str(key_name)));
}

Test(verify_beside, consumer_of_another_name)
{
    put_consumer("other");
    expect(KV_APL, "", 0, "consumer");
}

Test(verify_beside, consumers_that_are_some)
{
    Loquat__Cursor cursor = LOQUAT__CURSOR__INIT;
    char packed[64];
    cursor.offset = 1;
    value.n = 0;
    buf_add_span(&value, span_of(packed, loquat__cursor__pack(&cursor, (uint8_t *)packed)));
    put(KV_APL, key_named(partition, KEY_TAG_CURSOR, span_str("job")));
    put_consumer("job");
    value.n = 0;
    buf_add_str(&value, "12345678");
    put(KV_APL, key_named(0, KEY_TAG_CONSUMER, (struct span){0}));
    cr_assert(zero(u64, verify()->damage_count));
}
