#include "replication/roster.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/err.h"
#include "store/base/file.h"
#include "tests/lib/scratch.h"

static struct roster roster;
static char why[256];

static bool parses(const char *text)
{
    why[0] = '\0';
    return roster_parse(text, &roster, why, sizeof why);
}

/* In whatever order they are named: by rising number. */
Test(roster, three_nodes)
{
    cr_assert(parses("3=c:7103,1=a:7101,2=[::1]:7102"));
    cr_assert(eq(sz, roster.count, 3));
    cr_assert(eq(u64, roster.nodes[0].id, 1));
    cr_assert(eq(str, roster.nodes[1].address.host, "::1"));
    cr_assert(eq(str, roster.nodes[2].name, "c:7103"));
    cr_assert(eq(ptr, (void *)roster_find(&roster, 2), &roster.nodes[1]));
    cr_assert(zero(ptr, (void *)roster_find(&roster, 4)));
}

Test(roster, what_is_wrong_is_said)
{
    static const char *const WRONG[] = {"",
                                        "1",
                                        "1=",
                                        "=a:1",
                                        "0=a:1",
                                        "1=a",
                                        "1=a:1,",
                                        ",1=a:1",
                                        "-1=a:1",
                                        "1=a:1,1=b:1",
                                        "1=a:1,2=a:1",
                                        "x=a:1",
                                        "99999999999=a:1",
                                        "1=a:99999"};
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        cr_assert(not(parses(WRONG[i])), "%s", WRONG[i]);
        cr_assert(ne(chr, why[0], '\0'), "%s", WRONG[i]);
    }
}

Test(roster, no_more_than_fit)
{
    struct buf text = {0};
    for (int i = 1; i <= ROSTER_NODES_MAX + 1; i++)
        buf_addf(&text, "%s%d=a:%d", i > 1 ? "," : "", i, i);
    buf_add_byte(&text, 0);
    cr_assert(not(parses(text.p)));
    cr_assert(ne(ptr, strstr(why, "more than"), NULL));
    buf_close(&text);
}

/* The same name on every node; another one for another cluster. */
Test(roster, cluster_id)
{
    char id[4][ROSTER_ID_SIZE + 1];
    cr_assert(parses("1=a:1,2=b:1"));
    roster_cluster_id(&roster, 16, id[0]);
    roster_cluster_id(&roster, 17, id[1]);
    cr_assert(parses("2=b:1,1=a:1"));
    roster_cluster_id(&roster, 16, id[2]);
    cr_assert(parses("1=a:1,2=b:2"));
    roster_cluster_id(&roster, 16, id[3]);
    cr_assert(eq(str, id[0], id[2]));
    cr_assert(ne(str, id[0], id[1]));
    cr_assert(ne(str, id[0], id[3]));
    cr_assert(eq(sz, strlen(id[0]), ROSTER_ID_SIZE));
}

/* ---- who was met ---- */

static char root[SCRATCH_MAX];
static const char *const FIRST = "0123456789abcdef0123456789abcdef";
static const char *const SECOND = "1123456789abcdef0123456789abcdef";

static void setup(void)
{
    scratch_make(root);
}

static void teardown(void)
{
    scratch_remove(root);
}

TestSuite(met, .init = setup, .fini = teardown, .timeout = 60);

static int meet(uint64_t id, const char *incarnation)
{
    return roster_meet(root, id, span_str(incarnation));
}

/* Whom a node met once it knows again: with the same directory only. */
Test(met, with_one_directory)
{
    for (int life = 0; life < 2; life++) {
        cr_assert(eq(int, meet(2, FIRST), 0));
        cr_assert(eq(int, meet(2, SECOND), ERR_CONFLICT));
        cr_assert(eq(int, meet(22, SECOND), 0), "2 is not 22");
        cr_assert(eq(int, meet(22, FIRST), ERR_CONFLICT));
    }
    cr_assert(not(scratch_has(root, "ROSTER.tmp")));
    roster_forget(root);
    cr_assert(not(scratch_has(root, "ROSTER")));
    cr_assert(eq(int, meet(2, SECOND), 0));
}

/* More of them than a cluster ever has, and with the largest number. */
Test(met, many)
{
    for (uint64_t id = 1; id <= 200; id++)
        cr_assert(eq(int, meet(id, id % 2 == 0 ? FIRST : SECOND), 0));
    cr_assert(eq(int, meet(UINT64_MAX, FIRST), 0));
    for (uint64_t id = 1; id <= 200; id++)
        cr_assert(eq(int, meet(id, id % 2 == 0 ? SECOND : FIRST), ERR_CONFLICT));
    cr_assert(eq(int, meet(UINT64_MAX, SECOND), ERR_CONFLICT));
}

/* Whether the node is drained stays what it was put to, whoever is met. */
Test(met, drained)
{
    bool drained = true;
    cr_assert(eq(int, roster_get_drained(root, &drained), 0));
    cr_assert(not(drained));
    cr_assert(not(scratch_has(root, "ROSTER")), "asking writes nothing");
    cr_assert(eq(int, meet(2, FIRST), 0));
    cr_assert(eq(int, roster_put_drained(root, true), 0));
    cr_assert(eq(int, meet(3, SECOND), 0));
    cr_assert(eq(int, roster_get_drained(root, &drained), 0));
    cr_assert(drained);
    cr_assert(eq(int, meet(2, SECOND), ERR_CONFLICT));
    cr_assert(eq(int, roster_put_drained(root, false), 0));
    cr_assert(eq(int, roster_get_drained(root, &drained), 0));
    cr_assert(not(drained));
}

static void write_roster(struct span text)
{
    char path[SCRATCH_MAX + 16];
    snprintf(path, sizeof path, "%s/ROSTER", root);
    FILE *stream = fopen(path, "we");
    cr_assert(ne(ptr, stream, NULL));
    cr_assert(eq(sz, fwrite(text.p, 1, text.n, stream), text.n));
    cr_assert(zero(int, fclose(stream)));
}

/* A roster that forgot somebody would let a node vote twice: no bit of it flips unseen, it does not
 * become shorter, and what can't be read is not begun anew. */
Test(met, damage_is_found)
{
    char path[SCRATCH_MAX + 16];
    struct buf text = {0};
    bool drained;
    cr_assert(eq(int, meet(2, FIRST), 0));
    cr_assert(eq(int, meet(3, SECOND), 0));
    snprintf(path, sizeof path, "%s/ROSTER", root);
    cr_assert(eq(int, file_read(path, 4096, &text, NULL), 0));
    for (size_t bit = 0; bit < text.n * 8; bit++) {
        text.p[bit / 8] ^= (char)(1 << bit % 8);
        write_roster(buf_span(&text));
        cr_assert(eq(int, meet(2, FIRST), ERR_CORRUPT), "bit %zu", bit);
        cr_assert(eq(int, roster_get_drained(root, &drained), ERR_CORRUPT));
        cr_assert(eq(int, roster_put_drained(root, true), ERR_CORRUPT));
        text.p[bit / 8] ^= (char)(1 << bit % 8);
    }
    for (size_t n = 0; n < text.n; n++) {
        write_roster(span_of(text.p, n));
        cr_assert(eq(int, meet(4, FIRST), ERR_CORRUPT), "%zu bytes", n);
    }
    write_roster(buf_span(&text));
    cr_assert(eq(int, meet(2, FIRST), 0));
    buf_close(&text);
}

/* What can't be written was not remembered. */
Test(met, not_written)
{
    char path[SCRATCH_MAX + 32];
    cr_assert(eq(int, meet(2, FIRST), 0));
    snprintf(path, sizeof path, "%s/ROSTER.tmp", root);
    cr_assert(zero(int, mkdir(path, 0700))); /* in the way */
    cr_assert(eq(int, meet(3, FIRST), ERR_IO));
    cr_assert(eq(int, meet(2, FIRST), 0), "what is known needs no writing");
    cr_assert(zero(int, rmdir(path)));
    cr_assert(eq(int, meet(3, SECOND), 0));
}
