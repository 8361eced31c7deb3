#include "tests/gateway/gate_lib.h"

TestSuite(gate, .init = setup, .fini = teardown);

/* Each sequence once, whatever overlaps: tails, pages, and what the cursor has already. */
Test(gate, each_sequence_once)
{
    struct client alice;
    come_live(&alice, 10);
    give_records("g-1", 11, 12, false);
    hears_records(&alice, "11 12");
    give_records("g-1", 12, 14, false); /* overlaps: read from the cursor on */
    hears_records(&alice, "");
    give_records("g-1", 13, 16, true);
    hears_records(&alice, "13 14 15 16");
    give_records("g-1", 15, 16, false); /* had already */
    give_records("g-1", 17, 17, false);
    hears_records(&alice, "17");
    go(&alice);
}

/* A page that comes after the client has said `resume` from elsewhere is nobody's. */
Test(gate, a_page_of_before_a_resume_is_dropped)
{
    struct client alice;
    come_live(&alice, 10);
    ask(&alice, "{\"id\":3,\"op\":\"resume\",\"c\":\"g-1\",\"cur\":4}");
    ask(&alice, "{\"id\":4,\"op\":\"resume\",\"c\":\"g-1\",\"cur\":7}");
    give_records("g-1", 5, 10, true);
    cr_assert(not(hears(&alice, "\"rec\"")));
    give_records("g-1", 8, 10, true);
    hears_records(&alice, "8 9 10");
    go(&alice);
}

/* A frame of the tail is for all; who goes back before its cursor gets what a read lets him see,
 * even when the tail itself has not come that far yet. */
Test(gate, who_goes_back_is_read_for)
{
    struct client alice;
    char *ids[] = {"g-1"};
    come_live(&alice, 10);
    struct client late; /* joined at 13, says it has 10; the tail is at 10 */
    come(&late);
    ask(&late, "{\"id\":2,\"op\":\"sync\",\"cur\":{\"g-1\":10}}");
    give_ids(5, 1, ids);
    give_convs(13, 13);
    size_t i = want(LINK_READ, LOQUAT__READ_OP__READ_RANGE);
    cr_assert(eq(u64, asked[i].read->from, 11));
    cr_assert(not(asked[i].read->all));
    give_records("g-1", 11, 13, false);
    hears_records(&alice, "11 12 13");
    cr_assert(not(hears(&late, "\"rec\"")));
    Loquat__Item items[2] = {LOQUAT__ITEM__INIT, LOQUAT__ITEM__INIT}, *pointers[] = {&items[0]};
    items[0].seq = 11;
    items[0].last = 13;
    items[0].hole = LOQUAT__HOLE__HOLE_HIDDEN;
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    reply.items = pointers;
    reply.n_items = 1;
    reply.head = 13;
    reply_to(i, &reply);
    cr_assert(hears(&late, "\"hole\":[11,13],\"why\":\"hidden\""));
    give_records("g-1", 14, 14, false);
    hears_records(&late, "14");
    go(&alice);
    go(&late);
}

/* What the own log told this loop while a sync was under way is not missed: it looks again. */
Test(gate, a_sync_that_is_overtaken_looks_again)
{
    struct client first, second;
    char *ids[] = {"g-1", "g-2"};
    come_live(&first, 10);
    ask_sync(&second);
    give_record("alice", true, 6, LOQUAT__KIND__KIND_JOINED, "{\"c\":\"g-2\"}");
    cr_assert(hears(&first, "{\"ev\":\"user\",\"s\":6"));
    give_convs(10, 1); /* of the second's sync, which knows of g-1 only */
    give_convs(10, 1); /* `joined` of the first */
    cr_assert(hears(&first, "{\"ev\":\"joined\",\"c\":\"g-2\""));
    start_tail("g-2", false, 10, 0);
    give_ids(6, 2, ids);
    give_convs(10, 1);
    cr_assert(hears(&second, "{\"id\":2,\"ok\":{\"u\":6,"));
    give_records("g-2", 11, 11, false);
    hears_records(&second, "11");
    go(&first);
    go(&second);
}

/* A tail that the node ends: `lag` with numbers, nothing more, and `resume` begins it again; but
 * without the own log a client has to come back. */
Test(gate, a_tail_that_failed_is_begun_again)
{
    struct client alice, next;
    come_live(&alice, 10);
    Loquat__Tail failed = tail_of("g-1", false);
    failed.err = ERR_CORRUPT;
    say(LINK_TAIL, &failed.base);
    cr_assert(hears(&alice, "{\"ev\":\"lag\",\"c\":\"g-1\",\"from\":11,\"head\":10}"));
    give_records("g-1", 11, 11, false);
    hears_records(&alice, "");
    ask(&alice, "{\"id\":3,\"op\":\"resume\",\"c\":\"g-1\",\"cur\":11}");
    start_tail("g-1", false, 12, 0);
    give_records("g-1", 12, 12, true);
    give_records("g-1", 13, 13, false);
    hears_records(&alice, "12 13");
    ask_sync(&next);
    failed = tail_of("alice", true); /* nobody can read on by himself there */
    failed.err = ERR_BUSY;
    size_t size = loquat__tail__get_packed_size(&failed);
    loquat__tail__pack(&failed, (uint8_t *)link_send_begin(&node, LINK_TAIL, size));
    give_convs(13, 1); /* before the first client has been told to go */
    cr_assert(hears(&alice, "\x0f\xa0"
                            "come back")); /* 4000 */
    start_tail("alice", true, 5, 0);
    give_record("alice", true, 6, LOQUAT__KIND__KIND_LEFT, "{\"c\":\"g-2\"}");
    cr_assert(hears(&next, "{\"ev\":\"user\",\"s\":6"));
    go(&alice);
    go(&next);
}

/* Who is taken out is told `left` in place of the record, behind or not, and nothing after. */
Test(gate, who_is_removed_hears_nothing_more)
{
    struct client alice;
    come_live(&alice, 10);
    ask(&alice, "{\"id\":3,\"op\":\"resume\",\"c\":\"g-1\",\"cur\":8}"); /* behind: a read is due */
    size_t i = want(LINK_READ, LOQUAT__READ_OP__READ_RANGE);
    give_record("g-1", false, 11, LOQUAT__KIND__KIND_MEMBER,
                "{\"user\":\"alice\",\"set\":\"remove\"}");
    const char *text = heard(&alice);
    cr_assert(strstr(text, "\"left\",\"c\":\"g-1\"}") != NULL && strstr(text, "\"rec\"") == NULL);
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    reply.head = 10;
    reply_to(i, &reply);
    give_records("g-1", 12, 13, false);
    give_record("alice", true, 6, LOQUAT__KIND__KIND_LEFT, "{\"c\":\"g-1\"}");
    text = heard(&alice); /* of the own log alone: `left` was said */
    cr_assert(zero(int, strstr(text, "\"rec\"") != NULL || strstr(text, "\"left\",\"c\"") != NULL));
    cr_assert(ne(sz, find(LINK_UNSUB, 0), SIZE_MAX));
    go(&alice);
}

/* Answers that come when their client has gone, and the end of the link with calls open. */
Test(gate, answers_for_those_who_have_gone)
{
    struct client alice;
    char *ids[] = {"g-1"};
    come(&alice);
    ask(&alice, "{\"id\":2,\"op\":\"sync\",\"cur\":{}}");
    ask(&alice, "{\"id\":3,\"op\":\"members\",\"c\":\"g-1\"}");
    go(&alice);
    cr_assert(zero(sz, gate->conn_count));
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    reply_to(want(LINK_READ, LOQUAT__READ_OP__READ_MEMBERS), &reply);
    give_ids(5, 1, ids);
    cr_assert(zero(u64, cluster_calls(&gate->cluster)));
    come(&alice);
    ask(&alice, "{\"id\":2,\"op\":\"members\",\"c\":\"g-1\"}");
    link_close(&node, ERR_CLOSED);
    cr_assert(hears(&alice, "{\"id\":2,\"err\":{\"code\":\"unavailable\""));
    go(&alice);
}

/* Marks without an id are gathered to the highest of each conversation, and written a second later
 * or when the client goes; with an id at once. */
Test(gate, marks_are_gathered)
{
    struct client alice;
    come_live(&alice, 10);
    ask(&alice, "{\"op\":\"mark\",\"c\":\"g-1\",\"read\":3}");
    ask(&alice, "{\"op\":\"mark\",\"c\":\"g-1\",\"read\":7,\"delivered\":8}");
    ask(&alice, "{\"op\":\"mark\",\"c\":\"g-2\",\"delivered\":2}");
    ask(&alice, "{\"op\":\"mark\",\"c\":\"g-1\",\"read\":5}");
    cr_assert(eq(str, written, (char *)""));
    for (int i = 0; i < 1000 && written[0] == 0; i++)
        uv_run(&gate->loop, UV_RUN_ONCE); /* its timer wakes it */
    turn();
    cr_assert(eq(str, written, (char *)"g-1 7 8;g-2 0 2;"));
    ask(&alice, "{\"op\":\"mark\",\"c\":\"g-1\",\"read\":9}");
    ask(&alice, "{\"id\":3,\"op\":\"mark\",\"c\":\"g-3\",\"read\":1}");
    cr_assert(hears(&alice, "{\"id\":3,\"ok\":{}}"));
    cr_assert(eq(str, written, (char *)"g-1 7 8;g-2 0 2;g-3 1 0;"));
    go(&alice);
    cr_assert(eq(str, written, (char *)"g-1 7 8;g-2 0 2;g-3 1 0;g-1 9 0;"));
}

static int closes_after(uint64_t exp_ms)
{
    struct client alice;
    come(&alice);
    session_expires(container_of(list_first(&gate->conns), struct conn, in_gate), exp_ms);
    uint64_t began_ms = uv_now(&gate->loop), ms = 0;
    while (!hears(&alice, "the token has expired") && ms < 2500) {
        uv_run(&gate->loop, UV_RUN_ONCE);
        ms = uv_now(&gate->loop) - began_ms;
    }
    go(&alice);
    return (int)ms;
}

/* A token's end closes with 4100 within a sweep: one that has come already, too. */
Test(gate, tokens_end)
{
    cr_assert(lt(int, closes_after(clock_wall_ms() - 20000), 1500));
    int ms = closes_after(clock_wall_ms() + 1300);
    cr_assert(ms >= 1200 && ms < 2500, "%d", ms);
    cr_assert(ge(int, closes_after(clock_wall_ms() + 512000), 2500)); /* a round later */
}
