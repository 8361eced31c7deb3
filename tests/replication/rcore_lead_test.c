#include "tests/replication/rcore_lib.h"

TestSuite(rcore_lead, .fini = teardown);

enum { HEARD_MS = 10000, LOST_MS = 10010 };

/* When the next election is due, after the leader was heard and its connection has broken. */
static uint64_t election_after_loss(bool eager)
{
    start_follower();
    now_ms = HEARD_MS;
    receive(1, 1, 1, 1, NULL, 0);
    cr_assert(ge(u64, rcore_next_ms(core), HEARD_MS + RCORE_ELECTION_MS));
    rcore_leader_lost(core, eager, LOST_MS);
    return rcore_next_ms(core);
}

/* Whose connection to the leader breaks asks soon, and again soon; a leader that is there after all
 * puts it off. */
Test(rcore_lead, leader_is_lost)
{
    uint64_t due = election_after_loss(true);
    cr_assert(ge(u64, due, LOST_MS + RCORE_HURRY_MIN_MS));
    cr_assert(le(u64, due, LOST_MS + RCORE_HURRY_MIN_MS + 100));
    rcore_timeout(core, due);
    cr_assert(eq(int, rcore_state(core), RCORE_CANDIDATE));
    cr_assert(le(u64, rcore_next_ms(core), due + RCORE_HURRY_MIN_MS + 100));
    rcore_free(core);
    election_after_loss(true);
    now_ms = LOST_MS;
    receive(1, 1, 1, 1, NULL, 0);
    cr_assert(ge(u64, rcore_next_ms(core), LOST_MS + RCORE_ELECTION_MS));
}

/* Who should not lead votes at once, and stands later. */
Test(rcore_lead, leader_is_lost_to_who_is_behind)
{
    uint64_t due = election_after_loss(false);
    cr_assert(le(u64, due, LOST_MS));
    rcore_timeout(core, LOST_MS);
    cr_assert(eq(int, rcore_state(core), RCORE_CANDIDATE));
    cr_assert(ge(u64, rcore_next_ms(core), LOST_MS + RCORE_ELECTION_MS));
}

/* What is more than a message takes goes as several, one behind the other. */
Test(rcore_lead, large_entries_go_in_parts)
{
    enum { SIZE = 300 << 10, COUNT = 9 };
    start_follower();
    win(3);
    memset(buf_grow(&large, SIZE), 'x', SIZE);
    rcore_persisted(core, rcore_last_index(core), 5002);
    uint64_t first = rcore_last_index(core) + 1;
    for (int i = 0; i < COUNT; i++)
        cr_assert(eq(int, rcore_submit(core, buf_span(&large), 5003), 0));
    seen.messages = seen.entries = 0;
    stored(1, first - 1);
    cr_assert(eq(sz, seen.entries, COUNT));
    cr_assert(eq(sz, seen.messages, 3));
    cr_assert(eq(u64, seen.last.index, first - 1 + 8));
    cr_assert(eq(u64, seen.last.index_term, rcore_term(core)));
    buf_close(&large);
}

/* Guard 3: who tries for votes in a term that is over hears which one it is. Unguarded, libraft
 * 0.22.1 answers with the term it was asked for; if it has the longer log, nobody ever wins. */
Test(rcore_lead, tried_in_an_old_term)
{
    start_from_snapshot();
    Loquat__Raft vote = LOQUAT__RAFT__INIT;
    vote.kind = LOQUAT__RAFT_KIND__RAFT_VOTE;
    vote.from = vote.candidate = 3;
    vote.version = 2;
    vote.term = vote.index_term = 2;
    vote.index = 50;
    vote.pre_vote = true;
    cr_assert(eq(int, rcore_receive(core, &vote, 2), 0));
    cr_assert(eq(u32, seen.last.kind, LOQUAT__RAFT_KIND__RAFT_VOTE_RESULT));
    cr_assert(not(seen.last.granted));
    cr_assert(eq(u64, seen.last.term, 3));
    cr_assert(eq(u64, rcore_term(core), 3));
}

/* Guard 6: a term has one leader. */
Test(rcore_lead, two_in_one_term)
{
    start_follower();
    win(1);
    Loquat__Raft message = LOQUAT__RAFT__INIT;
    message.kind = LOQUAT__RAFT_KIND__RAFT_APPEND;
    message.from = 3;
    message.index = message.index_term = 1;
    message.term = rcore_term(core);
    cr_assert(eq(int, rcore_receive(core, &message, 5001), ERR_CONFLICT));
    message.kind = LOQUAT__RAFT_KIND__RAFT_SNAPSHOT;
    message.version = message.conf_index = 1;
    message.conf = (ProtobufCBinaryData){conf.n, (uint8_t *)conf.p};
    cr_assert(eq(int, rcore_receive(core, &message, 5001), ERR_CONFLICT));
    cr_assert(eq(int, rcore_state(core), RCORE_LEADER));
    message.term++;
    cr_assert(eq(int, rcore_receive(core, &message, 5001), 0));
    cr_assert(eq(int, rcore_state(core), RCORE_FOLLOWER));
}

/* And who hears it takes it over. */
Test(rcore_lead, hears_of_a_newer_term)
{
    start_follower();
    for (uint64_t now = 3; seen.last.kind != LOQUAT__RAFT_KIND__RAFT_VOTE && now < 5000; now += 10)
        if (now >= rcore_next_ms(core))
            rcore_timeout(core, now);
    Loquat__Raft no = LOQUAT__RAFT__INIT;
    no.kind = LOQUAT__RAFT_KIND__RAFT_VOTE_RESULT;
    no.from = 3;
    no.version = seen.last.version;
    no.pre_vote = true;
    no.term = 18;
    cr_assert(eq(int, rcore_receive(core, &no, 5000), 0));
    cr_assert(eq(u64, rcore_term(core), 18));
    cr_assert(eq(u64, seen.term, 18));
    cr_assert(eq(int, rcore_state(core), RCORE_FOLLOWER));
}
