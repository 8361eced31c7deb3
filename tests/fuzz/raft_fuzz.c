/* Messages of consensus from anyone: taken or refused, one after the other, by a follower that has
 * some entries; its log has no hole, its terms never fall, and what was committed stays. Each
 * message: a byte with its size, the packed Raft. */
#include <stdlib.h>
#include <xxhash.h>

#include "replication/rcore.h"
#include "store/base/buf.h"
#include "store/base/check.h"
#include "store/base/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LOG_MAX = 4096, AT_START = 4 };

struct log {
    uint64_t term[LOG_MAX], sum[LOG_MAX];
    struct buf bytes[LOG_MAX];
    uint16_t type[LOG_MAX];
    uint64_t last, commit, hard_term;
};

static void on_hard_state(void *arg, uint64_t term, uint64_t voted_for)
{
    struct log *log = arg;
    ASSERT(term >= log->hard_term && voted_for <= UINT64_MAX);
    log->hard_term = term;
}

static void on_entries(void *arg, uint64_t index, const struct rcore_entry *entries, size_t count)
{
    struct log *log = arg;
    ASSERT(index > log->commit && index <= log->last + 1 && count > 0);
    for (size_t i = 0; i < count && index + i < LOG_MAX; i++) {
        uint64_t at = index + i;
        ASSERT(entries[i].term >= log->term[at - 1]);
        log->term[at] = entries[i].term;
        log->type[at] = entries[i].type;
        log->bytes[at].n = 0;
        buf_add_span(&log->bytes[at], entries[i].bytes);
        log->last = at;
    }
}

static void on_state(void *arg, enum rcore_state state)
{
    (void)arg;
    ASSERT(state == RCORE_FOLLOWER || state == RCORE_CANDIDATE || state == RCORE_LEADER);
}

static void on_commit(void *arg, uint64_t commit)
{
    struct log *log = arg;
    ASSERT(commit >= log->commit);
    log->commit = commit;
}

static void on_message(void *arg, Loquat__Raft *message)
{
    (void)arg;
    ASSERT(message->from == 2 && message->to != 0);
}

static struct rcore_entry entry_at(void *arg, uint64_t index)
{
    const struct log *log = arg;
    ASSERT(index > 0 && index <= log->last);
    return (struct rcore_entry){log->term[index], log->type[index], buf_span(&log->bytes[index])};
}

static void on_install(void *arg, uint64_t index, uint64_t term, uint64_t conf_index,
                       struct span conf)
{
    (void)arg;
    ASSERT(index >= conf_index && term > 0 && conf.n > 0);
}

static const struct rcore_ops OPS = {
    .on_hard_state = on_hard_state,
    .on_entries = on_entries,
    .on_state = on_state,
    .on_commit = on_commit,
    .on_message = on_message,
    .entry = entry_at,
    .on_install = on_install,
};

static struct rcore *start(struct log *log)
{
    struct rcore_server servers[] = {{1, "1", true}, {2, "2", true}, {3, "3", true}};
    struct buf conf = {0};
    rcore_encode_conf(servers, 3, &conf);
    struct rcore_entry entries[AT_START] = {{1, RCORE_CHANGE, buf_span(&conf)},
                                            {1, RCORE_COMMAND, span_str("a")},
                                            {2, RCORE_COMMAND, span_str("b")},
                                            {2, RCORE_COMMAND, span_str("c")}};
    on_entries(log, 1, entries, AT_START);
    struct rcore_start begin = {.id = 2,
                                .address = "2",
                                .seed = 1,
                                .term = 2,
                                .first_index = 1,
                                .entries = entries,
                                .entry_count = AT_START,
                                .now_ms = 1};
    struct rcore *core = rcore_new(&begin, &OPS, log);
    buf_close(&conf);
    return core;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct log *log = xcalloc(1, sizeof *log);
    struct rcore *core = start(log);
    uint64_t now_ms = 1;
    while (size > 0 && !rcore_installing(core)) {
        size_t n = data[0] < size - 1 ? data[0] : size - 1;
        Loquat__Raft *message = loquat__raft__unpack(NULL, n, data + 1);
        if (message != NULL) {
            int err = rcore_receive(core, message, ++now_ms);
            ASSERT(err == 0 || err == ERR_CORRUPT || err == ERR_CONFLICT);
            loquat__raft__free_unpacked(message, NULL);
            if (err == ERR_CONFLICT) /* the core is not to be used any more */
                break;
        }
        if (log->last > 0 && n % 3 == 0)
            rcore_persisted(core, log->last, now_ms);
        if (n % 5 == 0 && rcore_next_ms(core) < UINT64_MAX / 2) {
            now_ms = rcore_next_ms(core) > now_ms ? rcore_next_ms(core) : now_ms;
            rcore_timeout(core, now_ms);
        }
        data += 1 + n;
        size -= 1 + n;
    }
    rcore_free(core);
    for (size_t i = 0; i < LOG_MAX; i++)
        buf_close(&log->bytes[i]);
    free(log);
    return 0;
}
