/* tests/replication/rcore_lib.h: one core, what it asks for, and what others say to it. For
 * rcore_*test.c, each of which has its own. */
#ifndef LOQUAT_TESTS_REPLICATION_RCORE_LIB_H
#define LOQUAT_TESTS_REPLICATION_RCORE_LIB_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

#include "replication/rcore.h"
#include "store/base/buf.h"
#include "store/base/err.h"

enum { SEEN_MAX = 128 };

/* What the core asked for. */
__attribute__((unused)) static struct {
    uint64_t term, voted_for, commit;
    enum rcore_state state;
    uint64_t index[SEEN_MAX], entry_term[SEEN_MAX];
    uint16_t type[SEEN_MAX];
    char text[SEEN_MAX][8];
    size_t count, messages, entries, bytes;
    uint64_t install_index, install_term;
    Loquat__Raft last; /* but for what it points to */
} seen;
__attribute__((unused)) static struct buf conf;
__attribute__((unused)) static struct rcore *core;
__attribute__((unused)) static uint64_t now_ms = 2; /* of messages that come */

static inline void on_hard_state(void *arg, uint64_t term, uint64_t voted_for)
{
    (void)arg;
    seen.term = term;
    seen.voted_for = voted_for;
}

static inline void on_entries(void *arg, uint64_t index, const struct rcore_entry *entries,
                              size_t count)
{
    (void)arg;
    for (size_t i = 0; i < count; i++) {
        size_t at = seen.count++;
        cr_assert(lt(sz, at, SEEN_MAX));
        seen.index[at] = index + i;
        seen.entry_term[at] = entries[i].term;
        seen.type[at] = entries[i].type;
        if (entries[i].type == RCORE_COMMAND && entries[i].bytes.n < sizeof seen.text[at])
            memcpy(seen.text[at], entries[i].bytes.p, entries[i].bytes.n);
    }
}

static inline void on_state(void *arg, enum rcore_state state)
{
    (void)arg;
    seen.state = state;
}

static inline void on_commit(void *arg, uint64_t commit)
{
    (void)arg;
    seen.commit = commit;
}

static inline void on_message(void *arg, Loquat__Raft *message)
{
    (void)arg;
    seen.messages++;
    seen.last = *message;
    seen.entries += message->n_entries;
    for (size_t i = 0; i < message->n_entries; i++)
        seen.bytes += message->entries[i]->data.len;
    cr_assert(le(sz, seen.bytes, 2 * RCORE_APPEND_BYTES), "it fits a link's message");
    seen.bytes = 0;
    cr_assert(eq(u64, message->from, 2), "they say who speaks");
}

__attribute__((unused)) static struct buf large; /* every entry is that, when it is not empty */

static inline struct rcore_entry entry_at(void *arg, uint64_t index)
{
    (void)arg;
    if (large.n > 0)
        return (struct rcore_entry){rcore_term(core), RCORE_COMMAND, buf_span(&large)};
    for (size_t i = seen.count; i-- > 0;)
        if (seen.index[i] == index)
            return (struct rcore_entry){seen.entry_term[i], seen.type[i], span_str(seen.text[i])};
    cr_fail("entry %lu was never given", index);
    return (struct rcore_entry){0};
}

static inline void on_install(void *arg, uint64_t index, uint64_t term, uint64_t conf_index,
                              struct span bytes)
{
    (void)arg;
    seen.install_index = index;
    seen.install_term = term;
    cr_assert(eq(u64, conf_index, 1));
    cr_assert(span_eq(bytes, buf_span(&conf)));
}

__attribute__((unused)) static const struct rcore_ops ops = {.on_install = on_install,
                                                             .on_hard_state = on_hard_state,
                                                             .on_entries = on_entries,
                                                             .on_state = on_state,
                                                             .on_commit = on_commit,
                                                             .on_message = on_message,
                                                             .entry = entry_at};

static inline void encode(size_t servers, size_t voters)
{
    struct rcore_server all[3] = {{1, "1", 0 < voters}, {2, "2", 1 < voters}, {3, "3", 2 < voters}};
    conf.n = 0;
    rcore_encode_conf(all, servers, &conf);
}

static inline void teardown(void)
{
    rcore_free(core);
    buf_close(&conf);
}

/* One of so many servers, with one configuration entry. */
static inline void start_first(uint64_t id, const char *address, size_t servers)
{
    encode(servers, servers);
    struct rcore_entry entry = {1, RCORE_CHANGE, buf_span(&conf)};
    struct rcore_start start = {.id = id,
                                .address = address,
                                .seed = 1,
                                .term = 1,
                                .first_index = 1,
                                .entries = &entry,
                                .entry_count = 1,
                                .now_ms = 1};
    core = rcore_new(&start, &ops, NULL);
}

/* Server 2 of three. */
static inline void start_follower(void)
{
    start_first(2, "2", 3);
}

/* Server 2 of three, whose log begins after a snapshot at 10. */
static inline void start_from_snapshot(void)
{
    encode(3, 3);
    struct rcore_start start = {.id = 2,
                                .address = "2",
                                .seed = 1,
                                .term = 3,
                                .snapshot_index = 10,
                                .snapshot_term = 2,
                                .conf_index = 1,
                                .conf = buf_span(&conf),
                                .first_index = 11,
                                .now_ms = 1};
    core = rcore_new(&start, &ops, NULL);
}

static inline void receive(uint64_t term, uint64_t prev_index, uint64_t prev_term, uint64_t commit,
                           const struct rcore_entry *entries, size_t count)
{
    Loquat__RaftEntry made[SEEN_MAX], *each[SEEN_MAX];
    Loquat__Raft message = LOQUAT__RAFT__INIT;
    message.from = 1;
    message.kind = LOQUAT__RAFT_KIND__RAFT_APPEND;
    message.term = term;
    message.index = prev_index;
    message.index_term = prev_term;
    message.commit = commit;
    message.entries = each;
    message.n_entries = count;
    for (size_t i = 0; i < count; i++) {
        made[i] = (Loquat__RaftEntry)LOQUAT__RAFT_ENTRY__INIT;
        made[i].term = entries[i].term;
        made[i].type = entries[i].type;
        made[i].data.len = entries[i].bytes.n;
        made[i].data.data = (uint8_t *)(uintptr_t)entries[i].bytes.p;
        each[i] = &made[i];
    }
    cr_assert(eq(int, rcore_receive(core, &message, now_ms), 0));
}

static inline struct rcore_entry command(uint64_t term, const char *text)
{
    return (struct rcore_entry){term, RCORE_COMMAND, span_str(text)};
}

static inline void win(uint64_t voter)
{
    for (uint64_t now = 3; seen.last.kind != LOQUAT__RAFT_KIND__RAFT_VOTE && now < 5000; now += 10)
        if (now >= rcore_next_ms(core))
            rcore_timeout(core, now);
    Loquat__Raft yes = LOQUAT__RAFT__INIT;
    yes.kind = LOQUAT__RAFT_KIND__RAFT_VOTE_RESULT;
    yes.from = voter;
    yes.version = seen.last.version;
    for (int round = 0; round < 2; round++) {
        yes.granted = true;
        yes.pre_vote = round == 0;
        yes.term = seen.last.term;
        cr_assert(eq(int, rcore_receive(core, &yes, 5000), 0));
    }
    cr_assert(eq(int, rcore_state(core), RCORE_LEADER));
}

static inline void stored(uint64_t server, uint64_t index)
{
    Loquat__Raft result = LOQUAT__RAFT__INIT;
    result.kind = LOQUAT__RAFT_KIND__RAFT_APPEND_RESULT;
    result.from = server;
    result.version = seen.last.version;
    result.term = rcore_term(core);
    result.index = index;
    cr_assert(eq(int, rcore_receive(core, &result, 5001), 0));
}

#endif
