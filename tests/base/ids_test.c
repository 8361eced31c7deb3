#include "store/base/ids.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

static const char *direct(const char *a, const char *b)
{
    static char id[MADE_ID_SIZE + 1];
    direct_id(span_str(a), span_str(b), id);
    return id;
}

static const char *group(const char *user, const char *cid)
{
    static char id[MADE_ID_SIZE + 1];
    group_id(span_str(user), span_str(cid), id);
    return id;
}

/* Ids are on disk everywhere: they never change. */
Test(ids, made_ids_stay_as_they_are)
{
    cr_assert(eq(str, (char *)direct("anna", "ben"), (char *)"d-53xz3eoc7n2tdo6v4ypcmfgoai"));
    cr_assert(eq(str, (char *)group("anna", "cid-1"), (char *)"g-tjv3vgkc76v3mviejlmwyprbui"));
    cr_assert(eq(str, (char *)direct("a", "ab"), (char *)"d-ofzgupvg7onrwmpyfs5cylcpqu"));
    cr_assert(eq(str, (char *)direct("aa", "b"), (char *)"d-37zjmbbfdasqntecr7frb4ghjm"));
    char a[USER_MAX + 1], b[USER_MAX + 1];
    memset(a, 'a', USER_MAX);
    memset(b, 'b', USER_MAX);
    a[USER_MAX] = b[USER_MAX] = 0;
    cr_assert(eq(str, (char *)direct(a, b), (char *)"d-kdwot27vcq37vt7sqtd7nb3zly"));
}

/* Whoever opens it, a pair has one conversation. */
Test(ids, direct_id_is_symmetrical)
{
    static const char *const USERS[] = {"a", "b", "aa", "ab", "A", "a.b", "zz@x", "0"};
    enum { N = sizeof USERS / sizeof *USERS };
    char seen[N * N][MADE_ID_SIZE + 1];
    size_t count = 0;
    for (size_t i = 0; i < N; i++) {
        for (size_t j = i; j < N; j++) {
            char id[MADE_ID_SIZE + 1];
            direct_id(span_str(USERS[i]), span_str(USERS[j]), id);
            cr_assert(eq(str, id, (char *)direct(USERS[j], USERS[i])));
            cr_assert(conv_name_valid(span_str(id)));
            for (size_t k = 0; k < count; k++)
                cr_assert(not(eq(str, id, seen[k])));
            memcpy(seen[count++], id, sizeof id);
        }
    }
}

/* Neither the kinds nor the order of a group's parts can be mixed up. */
Test(ids, group_ids_are_their_own)
{
    char ab[MADE_ID_SIZE + 1];
    group_id(span_str("a"), span_str("b"), ab);
    cr_assert(not(eq(str, ab, (char *)group("b", "a"))));
    cr_assert(eq(int, ab[0], 'g'));
    cr_assert(not(eq(str, ab + 2, (char *)direct("a", "b") + 2)));
}

/* The hash is XXH3-128: its value of nothing is published; others are on disk. */
Test(ids, conv_ids_stay_as_they_are)
{
    struct conv_id id = conv_id_of(span_of("", 0));
    cr_assert(eq(u64, id.hi, 0x99aa06d3014798d8u));
    cr_assert(eq(u64, id.lo, 0x6001c324468d497fu));
    id = conv_id_of(span_str("d-anna"));
    cr_assert(eq(u64, id.hi, 0x4a2c6cbc593df4a7u));
    cr_assert(eq(u64, id.lo, 0x1e9edb2b88b45633u));
    cr_assert(eq(u32, partition_of(id, 16), 7));
    cr_assert(eq(u32, partition_of(id, 1), 0));
    id = user_log_id(span_str("anna"));
    cr_assert(eq(u64, id.hi, 0x059c79ac62c26069u));
    cr_assert(eq(u64, id.lo, 0xf51a17111c3cd61bu));
    cr_assert(conv_id_eq(id, conv_id_of(span_of("u\0anna", 6))));
    cr_assert(not(conv_id_eq(id, conv_id_of(span_str("anna")))));
}

/* No partition is left out. */
Test(ids, partitions_share_evenly)
{
    size_t count[16] = {0};
    for (uint64_t i = 0; i < 16000; i++)
        count[partition_of(conv_id_of(span_of(&i, sizeof i)), 16)]++;
    for (size_t i = 0; i < 16; i++) {
        cr_assert(ge(sz, count[i], 800));
        cr_assert(le(sz, count[i], 1200));
    }
}

Test(ids, names_of_conversations)
{
    char name[CONV_ID_MAX + 2];
    memset(name, 'n', sizeof name);
    cr_assert(conv_name_valid(span_of(name, 1)));
    cr_assert(conv_name_valid(span_of(name, CONV_ID_MAX)));
    cr_assert(not(conv_name_valid(span_of(name, CONV_ID_MAX + 1))));
    cr_assert(not(conv_name_valid(span_of(name, 0))));
    for (int c = 0; c < 256; c++) {
        name[1] = (char)c;
        bool good = c > ' ' && c <= '~' && c != '/' && c != '"';
        cr_assert(eq(int, conv_name_valid(span_of(name, 3)), good), "byte %d", c);
    }
}

Test(ids, mids)
{
    uint64_t mid = mid_make(MID_EPOCH_MS, 0, 0);
    cr_assert(eq(u64, mid, 0));
    mid = mid_make(1700000000000, PARTITIONS_MAX - 1, 4095);
    cr_assert(eq(u64, mid_ms(mid), 1700000000000));
    cr_assert(eq(u64, mid & ((1 << 22) - 1), (1 << 22) - 1));
    cr_assert(lt(u64, mid, mid_make(1700000000001, 0, 0)));
}
