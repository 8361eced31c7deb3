#include "replication/roster.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

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

/* Whom a node met once it knows again, after a restart too: with the same directory only. */
Test(roster, meets, .timeout = 60)
{
    char root[SCRATCH_MAX], dir[SCRATCH_MAX + 16];
    struct kv *kv = NULL;
    struct kv_options options = {.create = true};
    struct span first = span_str("0123456789abcdef0123456789abcdef");
    struct span second = span_str("1123456789abcdef0123456789abcdef");
    scratch_make(root);
    snprintf(dir, sizeof dir, "%s/db", root);
    cr_assert(eq(int, kv_open(dir, KV_RAFT, &options, &kv), 0));
    cr_assert(eq(int, roster_meet(kv, 2, first), 0));
    cr_assert(eq(int, roster_meet(kv, 2, first), 0));
    cr_assert(eq(int, roster_meet(kv, 2, second), ERR_CONFLICT));
    cr_assert(eq(int, roster_meet(kv, 3, second), 0));
    kv_close(kv);
    options.create = false;
    cr_assert(eq(int, kv_open(dir, KV_RAFT, &options, &kv), 0));
    cr_assert(eq(int, roster_meet(kv, 2, second), ERR_CONFLICT));
    cr_assert(eq(int, roster_meet(kv, 2, first), 0));
    kv_close(kv);
    scratch_remove(root);
}
