#include "store/base/buf.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>

#include "store/base/check.h"

static struct buf buf;

static void teardown(void)
{
    buf_close(&buf);
}

TestSuite(buf, .fini = teardown);

/* Whatever its size, what is added is there. */
Test(buf, grows_as_needed)
{
    struct buf want = {0};
    for (size_t n = 0; n < 300; n++) {
        char *p = buf_grow(&buf, n);
        cr_assert(ne(ptr, p, NULL));
        memset(p, (int)n, n);
        for (size_t i = 0; i < n; i++)
            buf_add_byte(&want, (uint8_t)n);
    }
    cr_assert(eq(sz, buf.n, 299 * 300 / 2));
    cr_assert(span_eq(buf_span(&buf), buf_span(&want)));
    buf_close(&want);
    cr_assert(eq(ptr, want.p, NULL));
    cr_assert(eq(sz, want.cap, 0));
}

/* Reserved room is not used yet, and asking again changes nothing. */
Test(buf, reserve_keeps_the_size)
{
    buf_reserve(&buf, 1000);
    char *p = buf.p;
    cr_assert(eq(sz, buf.n, 0));
    cr_assert(ge(sz, buf.cap, 1000));
    memset(buf_grow(&buf, 1000), 'x', 1000);
    cr_assert(eq(ptr, buf.p, p));
}

Test(buf, adds_of_every_kind)
{
    buf_add(&buf, NULL, 0);
    cr_assert(eq(sz, buf.n, 0));
    buf_add_str(&buf, "a");
    buf_add_span(&buf, span_str("bc"));
    buf_add_byte(&buf, 'd');
    buf_addf(&buf, "%d-%s", 42, "x");
    cr_assert(span_is(buf_span(&buf), "abcd42-x"));
}

/* A formatted text of any length fits, at every fill. */
Test(buf, formatted_text_fits)
{
    char text[200];
    memset(text, 'f', sizeof text);
    for (int n = 0; n < 200; n++) {
        for (size_t fill = 0; fill < 70; fill++) {
            struct buf out = {0};
            buf_grow(&out, fill);
            buf_addf(&out, "%.*s", n, text);
            cr_assert(eq(sz, out.n, fill + (size_t)n));
            cr_assert(eq(int, memcmp(out.p + fill, text, (size_t)n), 0));
            buf_close(&out);
        }
    }
}

Test(buf, cut_drops_the_front)
{
    buf_cut(&buf, 0);
    buf_add_str(&buf, "abcdef");
    buf_cut(&buf, 2);
    cr_assert(span_is(buf_span(&buf), "cdef"));
    buf_cut(&buf, 0);
    buf_cut(&buf, 4);
    cr_assert(eq(sz, buf.n, 0));
}

/* ---- numbers ---- */

/* Big-endian bytes sort as their numbers do. */
Test(buf, fixed_width_numbers)
{
    char p[8], q[8];
    put_be64(p, 0x0102030405060708u);
    cr_assert(eq(int, memcmp(p, "\1\2\3\4\5\6\7\x08", 8), 0));
    cr_assert(eq(u64, get_be64(p), 0x0102030405060708u));
    put_be64(p, 255);
    put_be64(q, 256);
    cr_assert(lt(int, memcmp(p, q, 8), 0));
    put_be16(p, 0x8001);
    cr_assert(eq(int, memcmp(p, "\x80\1", 2), 0));
    cr_assert(eq(u16, get_be16(p), 0x8001));
    put_le32(p, 0x01020304);
    cr_assert(eq(int, memcmp(p, "\4\3\2\1", 4), 0));
    cr_assert(eq(u32, get_le32(p), 0x01020304));
    put_le64(p + 0, UINT64_MAX - 1);
    cr_assert(eq(u64, get_le64(p), UINT64_MAX - 1));
}

/* Reads from memory of exactly `n` bytes. */
static size_t get(const char *bytes, size_t n, uint64_t *v)
{
    char *copy = xmalloc(n);
    memcpy(copy, bytes, n);
    size_t got = get_varint(copy, n, v);
    free(copy);
    return got;
}

/* Every number comes back, in the bytes it needs, and from no fewer. */
Test(buf, varints_come_back)
{
    for (int bits = 0; bits < 64; bits++) {
        for (uint64_t around = 0; around < 3; around++) {
            uint64_t v = ((uint64_t)1 << bits) - 1 + around, read = 0;
            char p[VARINT_MAX];
            size_t n = put_varint(p, v), need = 1;
            for (uint64_t rest = v >> 7; rest > 0; rest >>= 7)
                need++;
            cr_assert(eq(sz, n, need));
            cr_assert(eq(sz, get(p, n, &read), n));
            cr_assert(eq(u64, read, v));
            for (size_t cut = 0; cut < n; cut++)
                cr_assert(eq(sz, get(p, cut, &read), 0));
            buf.n = 0;
            buf_add_varint(&buf, v);
            cr_assert(span_eq(buf_span(&buf), span_of(p, n)));
        }
    }
    char p[VARINT_MAX];
    uint64_t read = 0;
    cr_assert(eq(sz, put_varint(p, UINT64_MAX), VARINT_MAX));
    cr_assert(eq(sz, get(p, VARINT_MAX, &read), VARINT_MAX));
    cr_assert(eq(u64, read, UINT64_MAX));
}

/* What does not fit 64 bits is refused, not cut. */
Test(buf, varints_that_are_too_large)
{
    uint64_t read = 7;
    cr_assert(eq(sz, get("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10, &read), 0));
    cr_assert(eq(sz, get("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x01", 11, &read), 0));
    cr_assert(eq(sz, get("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80", 10, &read), 0));
    cr_assert(eq(u64, read, 7));
}
