#include "store/key.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

TestSuite(key);

static const struct conv_id a = {1, UINT64_MAX}, b = {2, 0};

static int order(struct key x, struct key y)
{
    size_t n = x.n < y.n ? x.n : y.n;
    int by_bytes = memcmp(x.p, y.p, n);
    return by_bytes != 0 ? by_bytes : (x.n > y.n) - (x.n < y.n);
}

/* Keys sort by partition, then conversation, then sequence, as numbers do. */
Test(key, order_is_that_of_the_numbers)
{
    cr_assert(lt(int, order(key_seq(1, a, 255), key_seq(1, a, 256)), 0));
    cr_assert(lt(int, order(key_seq(1, a, UINT64_MAX), key_seq(1, b, 0)), 0));
    cr_assert(lt(int, order(key_seq(255, b, 9), key_seq(256, a, 1)), 0));
    cr_assert(lt(int, order(key_number(1, 1), key_number(1, 1ull << 40)), 0));
    cr_assert(lt(int, order(key_user_log(1, a, 9), key_user_log(1, a, 10)), 0));
}

/* A partition, a conversation, a user's list are ranges that nothing else falls into. */
Test(key, ranges_are_apart)
{
    struct key header = key_header(3, a), first = key_member(3, a, (struct span){0});
    struct key member = key_member(3, a, span_str("zoe"));
    cr_assert(lt(int, order(key_partition(3), key_conv(3, a)), 0));
    cr_assert(lt(int, order(header, first), 0));
    cr_assert(lt(int, order(first, member), 0));
    cr_assert(lt(int, order(member, key_header(3, b)), 0));
    struct key list = key_user_conv(3, a, (struct conv_id){UINT64_MAX, UINT64_MAX});
    cr_assert(lt(int, order(list, key_user_log(3, a, 0)), 0));
    cr_assert(lt(int, order(key_user_log(3, a, UINT64_MAX), key_conv(3, b)), 0));
}

/* Sizes are those that readers count on to find the number at the end. */
Test(key, sizes)
{
    cr_assert(eq(sz, key_conv(0, a).n, KEY_CONV_SIZE));
    cr_assert(eq(sz, key_seq(0, a, 7).n, KEY_SEQ_SIZE));
    struct key key = key_seq(513, a, 7);
    cr_assert(eq(int, get_be16(key.p), 513));
    cr_assert(eq(u64, get_be64(key.p + 2), a.hi));
    cr_assert(eq(u64, get_be64(key.p + KEY_CONV_SIZE), 7));
    char longest[USER_MAX];
    memset(longest, 'u', sizeof longest);
    cr_assert(le(sz, key_member(0, a, span_of(longest, sizeof longest)).n, KEY_MAX));
}
