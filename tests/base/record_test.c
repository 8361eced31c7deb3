#include "store/base/record.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <xxhash.h>

#include "store/base/arena.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/ids.h"

static Loquat__Record sample(void)
{
    Loquat__Record record = LOQUAT__RECORD__INIT;
    record.ts = 1700000000000;
    record.mid_off = 4097;
    record.kind = LOQUAT__KIND__KIND_TEXT;
    record.from = (char *)(uintptr_t) "anna";
    record.cid = (char *)(uintptr_t) "c1";
    record.body.data = (uint8_t *)(uintptr_t) "{\"text\":\"hi\"}";
    record.body.len = 13;
    return record;
}

/* The bytes are a format: what was written once is read forever. */
Test(record, bytes_stay_as_they_are)
{
    static const char WANT[] =
        "\x01\x52\x7a\x5c\xc9\x08\x80\xd0\x95\xff\xbc\x31\x10\x82\x40\x20\x01"
        "\x32\x04"
        "anna"
        "\x3a\x0d{\"text\":\"hi\"}\x42\x02"
        "c1";
    struct buf out = {0};
    Loquat__Record record = sample(), *read = NULL;
    buf_add_str(&out, "before");
    record_encode(&record, &out);
    cr_assert(span_eq(span_of(out.p + 6, out.n - 6), span_of(WANT, sizeof WANT - 1)));
    cr_assert(eq(int, record_decode(span_of(WANT, sizeof WANT - 1), NULL, &read), 0));
    cr_assert(eq(u64, read->ts, 1700000000000));
    cr_assert(eq(str, read->from, (char *)"anna"));
    cr_assert(eq(sz, read->body.len, 13));
    loquat__record__free_unpacked(read, NULL);
    buf_close(&out);
}

static int decode(const char *bytes, size_t n)
{
    char *copy = xmalloc(n);
    memcpy(copy, bytes, n);
    Loquat__Record *record = NULL;
    int err = record_decode(span_of(copy, n), NULL, &record);
    cr_assert(eq(int, err == 0, record != NULL));
    if (err == 0)
        cr_assert(eq(int, record_check(span_of(copy, n)), 0));
    if (record != NULL)
        loquat__record__free_unpacked(record, NULL);
    free(copy);
    return err;
}

/* Any flipped bit and any cut is seen. */
Test(record, every_flipped_bit_is_seen)
{
    struct buf out = {0};
    Loquat__Record record = sample();
    record_encode(&record, &out);
    cr_assert(eq(int, decode(out.p, out.n), 0));
    for (size_t bit = 0; bit < 8 * out.n; bit++) {
        out.p[bit / 8] = (char)(out.p[bit / 8] ^ (1 << bit % 8));
        cr_assert(eq(int, decode(out.p, out.n), ERR_CORRUPT), "bit %zu", bit);
        out.p[bit / 8] = (char)(out.p[bit / 8] ^ (1 << bit % 8));
    }
    for (size_t n = 0; n < out.n; n++)
        cr_assert(eq(int, decode(out.p, n), ERR_CORRUPT), "%zu bytes", n);
    buf_close(&out);
}

/* A mid has the record's own time; it moves with the counter and keeps its order. */
static uint64_t some(uint64_t *state, int bits) /* any number of at most so many bits */
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return bits == 0 ? 0 : *state >> (64 - bits);
}

static void check_view(const struct record_view *view, const Loquat__Record *record)
{
    cr_assert(view->kind == record->kind && view->expires == record->expires &&
              view->erased == record->erased && view->stripped == record->stripped &&
              view->ts == record->ts && view->mid_off == record->mid_off &&
              view->gap == record->gap && view->reply == record->reply &&
              view->thread == record->thread && view->target == record->target &&
              view->mention_all == record->mention_all);
    cr_assert(span_is(view->xkind, record->xkind));
    cr_assert(span_is(view->from, record->from));
    cr_assert(span_is(view->cid, record->cid));
    cr_assert(eq(sz, view->body.n, record->body.len));
    cr_assert(view->body.n == 0 || memcmp(view->body.p, record->body.data, view->body.n) == 0);
    struct span rest = view->mentions, user;
    for (size_t i = 0; i < record->n_mentions; i++)
        cr_assert(record_mention(&rest, &user) && span_is(user, record->mentions[i]));
    cr_assert(not(record_mention(&rest, &user)));
}

/* A look says what unpacking says, wherever the fields stand and however long the others are; bytes
 * that end early are damage, and nothing behind them is read. */
Test(record, a_look_is_enough)
{
    uint64_t state = 7;
    for (int round = 0; round < 2000; round++) {
        char *users[] = {"ann", "", "bob"};
        Loquat__Record record = sample();
        struct buf out = {0};
        struct record_view view;
        record.kind = (uint32_t)some(&state, round % 33);
        record.expires = some(&state, round % 65);
        record.erased = some(&state, 1);
        record.stripped = some(&state, 1);
        record.body.len = some(&state, 3);
        record.target = some(&state, 40);
        record.gap = some(&state, 3);
        record.mid_off = (int64_t)some(&state, 60) - ((int64_t)1 << 59);
        record.mention_all = some(&state, 1);
        record.thread = some(&state, 20);
        record.n_mentions = some(&state, 2) % (sizeof users / sizeof users[0] + 1);
        record.mentions = users;
        record_encode(&record, &out);
        cr_assert(eq(int, record_view(buf_span(&out), &view), 0));
        check_view(&view, &record);
        size_t cut = some(&state, 10) % out.n;
        char *copy = xmalloc(cut + 1);
        memcpy(copy, out.p, cut);
        cr_assert(eq(int, record_view(span_of(copy, cut), &view), ERR_CORRUPT));
        free(copy);
        buf_close(&out);
    }
}

/* The same with a checksum that fits: a field that is cut short is found by its size. */
Test(record, a_look_at_a_cut_field)
{
    Loquat__Record record = sample();
    struct buf out = {0};
    struct record_view view;
    record_encode(&record, &out);
    for (size_t n = RECORD_HEAD_SIZE; n < out.n; n++) {
        char *copy = xmalloc(n);
        memcpy(copy, out.p, n);
        put_le32(copy + 1, (uint32_t)XXH3_64bits(copy + RECORD_HEAD_SIZE, n - RECORD_HEAD_SIZE));
        Loquat__Record *read = NULL;
        int want = record_decode(span_of(copy, n), NULL, &read);
        cr_assert(eq(int, record_view(span_of(copy, n), &view), want));
        if (read != NULL)
            loquat__record__free_unpacked(read, NULL);
        free(copy);
    }
    buf_close(&out);
}

Test(record, mid_from_time_and_counter)
{
    Loquat__Record record = sample();
    uint64_t mid = record_mid(record.ts, record.mid_off, 5);
    cr_assert(eq(u64, mid, mid_make(1700000000001, 5, 1)));
    cr_assert(eq(u64, mid_ms(mid), 1700000000001));
    record.mid_off = 4095;
    cr_assert(lt(u64, record_mid(record.ts, record.mid_off, 5), mid));
    record.mid_off = -1; /* a ms before, last counter */
    cr_assert(eq(u64, record_mid(record.ts, record.mid_off, 5), mid_make(1699999999999, 5, 4095)));
    cr_assert(eq(u64, record_n(&record, 7), 7));
}

Test(record, kinds_have_names)
{
    struct span xkind;
    static const char *const NAMES[] = {"text",   "image", "file",   "edit", "delete",
                                        "member", "meta",  "joined", "left", "read"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        uint32_t kind = kind_of(span_str(NAMES[i]), &xkind);
        cr_assert(ne(u32, kind, 0));
        cr_assert(eq(str, (char *)kind_name(kind), (char *)NAMES[i]));
        cr_assert(eq(int, kind_is_message(kind), i < 3));
        cr_assert(eq(ptr, (void *)xkind.p, NULL));
    }
    cr_assert(eq(ptr, (void *)kind_name(99), NULL));
}

Test(record, kinds_of_applications)
{
    struct span xkind;
    cr_assert(eq(u32, kind_of(span_str("x-poll-2"), &xkind), LOQUAT__KIND__KIND_X));
    cr_assert(span_is(xkind, "poll-2"));
    cr_assert(eq(u32, kind_of(span_str("x-aaaaaaaabbbbbbbbccccccccdddddddd"), &xkind),
                 LOQUAT__KIND__KIND_X));
    static const char *const BAD[] = {"",
                                      "x",
                                      "x-",
                                      "X-poll",
                                      "x-Poll",
                                      "x-a b",
                                      "x-a_b",
                                      "x-\xc3\xa9",
                                      "Text",
                                      "none",
                                      "x-aaaaaaaabbbbbbbbccccccccdddddddde"};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        cr_assert(eq(u32, kind_of(span_str(BAD[i]), &xkind), 0), "%s", BAD[i]);
}

/* What a newer version wrote has no name here, and ends nothing. */
Test(record, roles_and_holes)
{
    for (uint32_t role = 1; role <= 3; role++)
        cr_assert(eq(u32, role_of(span_str(role_name(role))), role));
    cr_assert(eq(u32, role_of(span_str("none")), 0));
    cr_assert(eq(u32, role_of(span_str("king")), 0));
    cr_assert(eq(str, (char *)role_name(4), (char *)"none"));
    cr_assert(eq(str, (char *)role_name(UINT32_MAX), (char *)"none"));
    cr_assert(eq(str, (char *)hole_name(LOQUAT__HOLE__HOLE_TRIMMED), (char *)"trimmed"));
    cr_assert(eq(str, (char *)hole_name(6), (char *)"none"));
}

/* Unpacking into an arena needs no freeing. */
Test(record, decode_into_an_arena)
{
    struct arena arena;
    struct buf out = {0};
    Loquat__Record record = sample(), *read = NULL;
    arena_init(&arena);
    record_encode(&record, &out);
    cr_assert(eq(int, record_decode(buf_span(&out), &arena.allocator, &read), 0));
    cr_assert(eq(str, read->cid, (char *)"c1"));
    arena_close(&arena);
    buf_close(&out);
}
