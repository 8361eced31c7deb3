#include "tests/replication/rcore_lib.h"

TestSuite(rcore, .fini = teardown);

/* A node alone leads at once, and commits what is durable, not before. */
Test(rcore, one_voter_commits_what_is_durable)
{
    start_first(1, "1", 1);
    for (uint64_t now = 1; rcore_state(core) != RCORE_LEADER && now < 5000; now += 10)
        if (now >= rcore_next_ms(core))
            rcore_timeout(core, now);
    cr_assert(eq(int, seen.state, RCORE_LEADER));
    uint64_t last = rcore_last_index(core);
    cr_assert(eq(int, rcore_submit(core, span_str("one"), 5000), 0));
    cr_assert(eq(int, rcore_submit(core, span_str("two"), 5000), 0));
    cr_assert(eq(u64, seen.index[seen.count - 1], last + 2));
    cr_assert(eq(str, seen.text[seen.count - 1], "two"));
    cr_assert(eq(u64, seen.entry_term[seen.count - 1], rcore_term(core)));
    cr_assert(lt(u64, seen.commit, last + 1));
    rcore_persisted(core, last + 1, 5001);
    cr_assert(eq(u64, seen.commit, last + 1));
    rcore_persisted(core, last + 2, 5002);
    rcore_persisted(core, last + 1, 5003); /* overtaken */
    cr_assert(eq(u64, seen.commit, last + 2));
    cr_assert(eq(u64, rcore_last_stored(core), last + 2));
}

/* A follower takes no commands, and tells the term it was told. */
Test(rcore, follower_refuses_commands)
{
    start_follower();
    cr_assert(eq(int, rcore_submit(core, span_str("x"), 2), RCORE_REFUSED));
    struct rcore_entry entries[] = {command(4, "a")};
    receive(4, 1, 1, 1, entries, 1);
    cr_assert(eq(u64, seen.term, 4));
    cr_assert(eq(u64, rcore_term(core), 4));
    cr_assert(eq(sz, seen.count, 1));
    cr_assert(eq(u64, seen.index[0], 2));
    cr_assert(eq(str, seen.text[0], "a"));
}

/* Guard 1: entries below the own snapshot are in it already. Unguarded, libraft 0.22.1 writes over
 * memory that is not its own. Every anchor below the snapshot, every length. */
Test(rcore, append_below_the_own_snapshot)
{
    for (uint64_t prev = 0; prev <= 10; prev++)
        for (size_t count = 0; count <= 14; count++) {
            seen.count = 0;
            start_from_snapshot();
            struct rcore_entry entries[14];
            char texts[14][24];
            for (size_t i = 0; i < count; i++) {
                uint64_t index = prev + 1 + i;
                snprintf(texts[i], sizeof texts[i], "e%lu", index);
                entries[i] = command(index <= 10 ? 2 : 3, texts[i]);
            }
            receive(3, prev, prev == 0 ? 0 : 2, prev + count, entries, count);
            uint64_t last = prev + count > 10 ? prev + count : 10;
            cr_assert(eq(sz, seen.count, last - 10), "prev %lu, %zu entries", prev, count);
            for (size_t i = 0; i < seen.count; i++) {
                char want[24];
                snprintf(want, sizeof want, "e%zu", i + 11);
                cr_assert(eq(u64, seen.index[i], i + 11));
                cr_assert(eq(str, seen.text[i], want));
            }
            cr_assert(eq(u64, rcore_last_index(core), last));
            rcore_free(core);
            core = NULL;
        }
}

/* The guard is for leaders of now: a message of an older term changes nothing. */
Test(rcore, stale_append_below_the_snapshot)
{
    start_from_snapshot();
    struct rcore_entry entries[] = {command(2, "a"), command(2, "b")};
    receive(2, 8, 2, 10, entries, 2);
    cr_assert(eq(sz, seen.count, 0));
    cr_assert(eq(u64, rcore_last_index(core), 10));
    cr_assert(eq(u64, rcore_term(core), 3));
}

/* Guard 2: a change that is not first in its message is remembered at its own index. Unguarded,
 * libraft 0.22.1 remembers that of the first entry. */
Test(rcore, change_behind_other_entries)
{
    for (size_t before = 0; before < 5; before++) {
        seen.count = 0;
        start_follower();
        struct rcore_entry entries[8];
        for (size_t i = 0; i < before; i++)
            entries[i] = command(1, "x");
        encode(3, 2);
        entries[before] = (struct rcore_entry){1, RCORE_CHANGE, buf_span(&conf)};
        entries[before + 1] = command(1, "y");
        receive(1, 1, 1, 1, entries, before + 2);
        cr_assert(eq(u64, rcore_uncommitted_conf_index(core), 2 + before));
        cr_assert(eq(sz, seen.count, before + 2));
        for (size_t i = 0; i < seen.count; i++) {
            cr_assert(eq(u64, seen.index[i], i + 2));
            cr_assert(eq(u32, seen.type[i], i == before ? RCORE_CHANGE : RCORE_COMMAND));
        }
        rcore_free(core);
        core = NULL;
    }
}

/* A new leader's entries replace the tail that an old one left. */
Test(rcore, tail_is_replaced)
{
    start_follower();
    struct rcore_entry old[] = {command(1, "a"), command(1, "b"), command(1, "c")};
    receive(1, 1, 1, 1, old, 3);
    rcore_persisted(core, 4, 3);
    struct rcore_entry fresh[] = {command(2, "B")};
    receive(2, 2, 1, 2, fresh, 1);
    cr_assert(eq(u64, rcore_last_index(core), 3));
    cr_assert(eq(u64, seen.index[seen.count - 1], 3));
    cr_assert(eq(str, seen.text[seen.count - 1], "B"));
    cr_assert(eq(u64, seen.entry_term[seen.count - 1], 2));
    cr_assert(eq(u64, seen.commit, 2));
}

/* After a snapshot the log begins later, and goes on. */
Test(rcore, snapshot_moves_the_beginning)
{
    start_follower();
    struct rcore_entry entries[] = {command(1, "a"), command(1, "b"), command(1, "c")};
    receive(1, 1, 1, 4, entries, 3);
    rcore_persisted(core, 4, 3);
    cr_assert(eq(u64, seen.commit, 4));
    rcore_snapshot(core, 3, 1, 1, buf_span(&conf), 1, 4);
    struct rcore_entry more[] = {command(1, "x"), command(1, "c"), command(1, "d")};
    receive(1, 2, 1, 4, more, 3); /* anchored below it */
    cr_assert(eq(u64, rcore_last_index(core), 5));
    cr_assert(eq(str, seen.text[seen.count - 1], "d"));
}

/* A follower that hears nothing asks for votes, without a new term first; granted, it leads and
 * sends what it has. */
Test(rcore, votes_are_asked_for)
{
    start_follower();
    struct rcore_entry entries[] = {command(1, "a")};
    receive(1, 1, 1, 1, entries, 1);
    rcore_persisted(core, 2, 3);
    for (uint64_t now = 3; seen.last.kind != LOQUAT__RAFT_KIND__RAFT_VOTE && now < 5000; now += 10)
        if (now >= rcore_next_ms(core))
            rcore_timeout(core, now);
    cr_assert(seen.last.pre_vote);
    cr_assert(eq(u64, seen.last.index, 2));
    cr_assert(eq(u64, seen.last.candidate, 2));
    Loquat__Raft yes = LOQUAT__RAFT__INIT;
    yes.kind = LOQUAT__RAFT_KIND__RAFT_VOTE_RESULT;
    yes.from = 3;
    yes.version = seen.last.version;
    yes.granted = yes.pre_vote = true;
    yes.term = seen.last.term;
    cr_assert(eq(int, rcore_receive(core, &yes, 5000), 0));
    cr_assert(eq(u64, seen.voted_for, 2));
    cr_assert(not(seen.last.pre_vote));
    yes.pre_vote = false;
    yes.term = seen.last.term;
    cr_assert(eq(int, rcore_receive(core, &yes, 5001), 0));
    cr_assert(eq(int, rcore_state(core), RCORE_LEADER));
    cr_assert(eq(u32, seen.last.kind, LOQUAT__RAFT_KIND__RAFT_APPEND));
}

/* A snapshot replaces the log: until it is installed no entry is taken, then it goes on. */
Test(rcore, snapshot_is_installed)
{
    start_follower();
    Loquat__Raft snapshot = LOQUAT__RAFT__INIT;
    snapshot.kind = LOQUAT__RAFT_KIND__RAFT_SNAPSHOT;
    snapshot.from = 1;
    snapshot.version = 1;
    snapshot.term = 5;
    snapshot.index = 100;
    snapshot.index_term = 4;
    snapshot.conf_index = 1;
    snapshot.conf = (ProtobufCBinaryData){conf.n, (uint8_t *)conf.p};
    cr_assert(eq(int, rcore_receive(core, &snapshot, 2), 0));
    cr_assert(eq(u64, seen.install_index, 100));
    cr_assert(eq(u64, seen.install_term, 4));
    cr_assert(rcore_installing(core));
    struct rcore_entry entry = command(5, "a");
    receive(5, 100, 4, 100, &entry, 1);
    cr_assert(eq(sz, seen.count, 0));
    rcore_installed(core, 100, 4, 1, buf_span(&conf), 3);
    cr_assert(not(rcore_installing(core)));
    cr_assert(eq(u32, seen.last.kind, LOQUAT__RAFT_KIND__RAFT_APPEND_RESULT));
    cr_assert(eq(u64, seen.last.index, 100));
    cr_assert(eq(u64, rcore_last_index(core), 100));
    cr_assert(eq(u64, rcore_commit_index(core), 100));
    receive(5, 100, 4, 100, &entry, 1);
    cr_assert(eq(u64, rcore_last_index(core), 101));
    seen.install_index = 0;
    cr_assert(eq(int, rcore_receive(core, &snapshot, 4), 0)); /* it is there */
    cr_assert(eq(u64, seen.install_index, 0));
}

/* The membership changes when those who know of the one before are a majority of the next. */
Test(rcore, changes_that_are_safe)
{
    start_follower();
    struct rcore_entry entry = command(1, "a");
    receive(1, 1, 1, 1, &entry, 1);
    rcore_persisted(core, 2, 3);
    win(3);
    stored(3, 2);
    rcore_persisted(core, rcore_last_index(core), 5002);
    stored(3, rcore_last_index(core));
    cr_assert(eq(u64, rcore_commit_index(core), rcore_last_index(core)));
    cr_assert(eq(u64, rcore_match(core, 3), rcore_last_index(core)));
    cr_assert(eq(u64, rcore_match(core, 1), 0));
    cr_assert(eq(u64, rcore_match(core, 77), 0));

    struct rcore_server four[] = {{1, "1", true}, {2, "2", true}, {3, "3", true}, {4, "4", true}};
    struct buf next = {0};
    rcore_encode_conf(four, 4, &next); /* 2 and 3 know, of four */
    cr_assert(eq(int, rcore_change(core, buf_span(&next), 5003), RCORE_REFUSED));
    next.n = 0;
    struct rcore_server two[] = {{2, "2", true}, {3, "3", true}};
    rcore_encode_conf(two, 2, &next); /* 1 goes, who knows nothing */
    cr_assert(eq(int, rcore_change(core, buf_span(&next), 5004), 0));
    cr_assert(eq(int, rcore_change(core, buf_span(&next), 5005), RCORE_REFUSED), "one at a time");
    buf_close(&next);
}

/* Guard 4: who has won with a log that is committed has no entry of its own term. A change is made
 * only when such an entry is committed: it comes first. */
Test(rcore, no_change_before_an_own_entry)
{
    start_follower();
    struct rcore_entry entry = command(1, "a");
    receive(1, 1, 1, 2, &entry, 1);
    rcore_persisted(core, 2, 3);
    cr_assert(eq(u64, rcore_commit_index(core), 2));
    win(3);
    cr_assert(eq(u64, rcore_last_index(core), 2), "the library has made one");
    struct buf next = {0};
    struct rcore_server two[] = {{2, "2", true}, {3, "3", true}};
    rcore_encode_conf(two, 2, &next);
    stored(3, 2);
    cr_assert(eq(int, rcore_change(core, buf_span(&next), 5002), RCORE_REFUSED));
    cr_assert(eq(u64, rcore_last_index(core), 3));
    cr_assert(eq(u64, seen.entry_term[seen.count - 1], rcore_term(core)));
    cr_assert(eq(int, seen.type[seen.count - 1], RCORE_BARRIER));
    rcore_persisted(core, 3, 5003);
    cr_assert(eq(int, rcore_change(core, buf_span(&next), 5003), RCORE_REFUSED), "not committed");
    cr_assert(eq(u64, rcore_last_index(core), 3), "one is enough");
    stored(3, 3);
    cr_assert(eq(u64, rcore_commit_index(core), 3));
    cr_assert(eq(int, rcore_change(core, buf_span(&next), 5004), 0));
    cr_assert(eq(int, seen.type[seen.count - 1], RCORE_CHANGE));
    buf_close(&next);
}

/* A vote is for who has caught up. */
Test(rcore, vote_for_who_is_behind)
{
    encode(3, 2); /* 3 has none */
    struct rcore_entry all[RCORE_BEHIND_MAX + 3];
    all[0] = (struct rcore_entry){1, RCORE_CHANGE, buf_span(&conf)};
    size_t count = sizeof all / sizeof *all;
    for (size_t i = 1; i < count; i++)
        all[i] = command(1, "x");
    struct rcore_start start = {.id = 2,
                                .address = "2",
                                .seed = 1,
                                .term = 1,
                                .first_index = 1,
                                .entries = all,
                                .entry_count = count,
                                .now_ms = 1};
    core = rcore_new(&start, &ops, NULL);
    for (size_t i = 0; i < count; i++, seen.count++) {
        seen.index[i] = i + 1;
        seen.entry_term[i] = 1;
        seen.type[i] = all[i].type;
    }
    struct buf next = {0};
    struct rcore_server three[] = {{1, "1", true}, {2, "2", true}, {3, "3", true}};
    rcore_encode_conf(three, 3, &next);
    cr_assert(eq(int, rcore_change(core, buf_span(&next), 2), RCORE_REFUSED), "it leads not yet");
    win(1);
    rcore_persisted(core, rcore_last_index(core), 5001);
    stored(1, rcore_last_index(core));
    cr_assert(eq(int, rcore_change(core, buf_span(&next), 5002), RCORE_REFUSED));
    stored(3, rcore_last_index(core) - RCORE_BEHIND_MAX);
    cr_assert(eq(int, rcore_change(core, buf_span(&next), 5003), 0));
    buf_close(&next);
}

enum { CONF_USED = 1 + 8 + 3 * (8 + 2 + 1) }; /* bytes of `conf` with three, but for padding */

/* Where reading past its end shows. */
static ProtobufCBinaryData copy_of(const char *p, size_t n)
{
    uint8_t *bytes = malloc(n);
    cr_assert(ne(ptr, bytes, NULL));
    memcpy(bytes, p, n);
    return (ProtobufCBinaryData){n, bytes};
}

/* What no core could have sent is refused, and changes nothing. */
Test(rcore, messages_of_nobody)
{
    start_follower();
    Loquat__RaftEntry entry = LOQUAT__RAFT_ENTRY__INIT, *entries[] = {&entry};
    Loquat__Raft fine = LOQUAT__RAFT__INIT, bad;
    fine.kind = LOQUAT__RAFT_KIND__RAFT_APPEND;
    fine.from = 1;
    fine.term = 2;
    fine.index = fine.index_term = 1;
    fine.entries = entries;
    fine.n_entries = 1;
    entry.term = 2;
    entry.type = RCORE_COMMAND;
#define REFUSED(change)                                                                            \
    do {                                                                                           \
        bad = fine;                                                                                \
        change;                                                                                    \
        cr_assert(eq(int, rcore_receive(core, &bad, 2), ERR_CORRUPT), #change);                    \
    } while (0)
    REFUSED(bad.kind = 0);
    REFUSED(bad.kind = 7);
    REFUSED(bad.kind = LOQUAT__RAFT_KIND__RAFT_VOTE); /* entries in a vote */
    REFUSED(bad.from = 0);
    REFUSED(bad.term = 0);
    REFUSED(bad.version = 256);
    REFUSED(bad.index_term = 3); /* newer than the leader's */
    REFUSED(bad.index_term = 0);
    REFUSED(bad.index = UINT64_MAX);
    entry.term = 3;
    REFUSED((void)0);
    entry.term = 0;
    REFUSED((void)0);
    entry.term = 2;
    entry.type = 9;
    REFUSED((void)0);
    entry.type = RCORE_CHANGE; /* no configuration */
    REFUSED((void)0);
    for (size_t n = 1; n < CONF_USED; n++) { /* one that was cut off */
        entry.data = copy_of(conf.p, n);
        REFUSED((void)0);
        free(entry.data.data);
    }
    entry.data = copy_of(conf.p, conf.n);
    memset(entry.data.data + 1, 0xff, 8); /* more servers than there are */
    REFUSED((void)0);
    memcpy(entry.data.data, conf.p, 9);
    memset(entry.data.data + 9, 'x', conf.n - 9); /* an address without an end */
    REFUSED((void)0);
    free(entry.data.data);
    entry.data = (ProtobufCBinaryData){0};
    cr_assert(eq(u64, rcore_term(core), 1));
    cr_assert(eq(u64, rcore_last_index(core), 1));
    entry.type = RCORE_COMMAND;
    cr_assert(eq(int, rcore_receive(core, &fine, 2), 0));
    cr_assert(eq(u64, rcore_last_index(core), 2));
}
