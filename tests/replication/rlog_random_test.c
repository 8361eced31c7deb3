/* Raft logs by seed: whatever is done to three of them, in whatever order, a start finds what was
 * written, from each of the segments on that may be the first one. What they should be is kept
 * apart, as plain arrays. LOQUAT_SEED repeats one of the runs. */
#include "tests/lib/dice.h"
#include "tests/replication/rlog_lib.h"

enum { INDEX_MAX = 20000, ROUNDS = 200, STEPS = 400 };

struct model {
    uint64_t term, vote, cuts;
    uint64_t snapshot_index, snapshot_term, gone, last;
    uint64_t install;
    uint32_t conf; /* what the next trim will say, and what the last one, or a snapshot, said */
    uint32_t said;
    uint64_t terms[INDEX_MAX];
    uint32_t salts[INDEX_MAX];
};

static struct model model[LOGS], durable[LOGS];
static uint64_t seed;
static char payload[256];

static uint64_t roll(uint64_t sides)
{
    return dice_roll(&seed, sides);
}

/* The bytes and the type of an entry, by its salt. */
static struct rcore_entry entry_of(uint64_t term, uint32_t salt)
{
    size_t n = salt % 7 == 0 ? 0 : salt % sizeof payload;
    for (size_t i = 0; i < n; i++)
        payload[i] = (char)(salt >> i % 24);
    return (struct rcore_entry){term, salt % 11 == 0 ? RCORE_CHANGE : RCORE_COMMAND,
                                span_of(payload, n)};
}

static struct span conf_of(uint32_t number)
{
    static char text[32];
    snprintf(text, sizeof text, "configuration %u", number);
    return span_str(text);
}

/* ---- steps ---- */

static void put_at(uint32_t p, uint64_t index)
{
    struct model *m = &model[p];
    m->cuts += index <= m->last;
    for (uint64_t i = 1 + roll(4); i > 0 && index < INDEX_MAX; i--, index++) {
        uint32_t salt = (uint32_t)roll(UINT32_MAX);
        struct rcore_entry entry = entry_of(m->term, salt);
        rlog_put_entries(&logs[p], &batch, index, &entry, 1);
        m->terms[index] = m->term;
        m->salts[index] = salt;
        m->last = index;
    }
}

static void cut(uint32_t p)
{
    struct model *m = &model[p];
    if (m->last == m->snapshot_index)
        return;
    m->term++;
    m->vote = roll(4);
    rlog_put_hard(&logs[p], &batch, m->term, m->vote);
    put_at(p, m->snapshot_index + 1 + roll(m->last - m->snapshot_index));
}

static void trim(uint32_t p)
{
    struct model *m = &model[p];
    uint64_t index = m->snapshot_index + roll(m->last - m->snapshot_index + 1);
    uint64_t upto = m->gone + roll(index - m->gone + 1);
    if (index > m->gone && index != m->snapshot_index)
        m->snapshot_term = m->terms[index];
    m->snapshot_index = index;
    m->gone = upto;
    m->said = m->conf;
    rlog_trim(&logs[p], &batch, index, m->snapshot_term, upto);
}

static void install(uint32_t p)
{
    struct model *m = &model[p];
    struct rlog_snapshot found, at = {m->install, m->term, m->term, conf_of((uint32_t)m->install)};
    if (m->install == 0) {
        at.index = m->snapshot_index + 1 + roll(40);
        if (at.index >= INDEX_MAX)
            return;
        m->install = at.index;
        at.conf = conf_of((uint32_t)m->install);
        rlog_put_install(&logs[p], &batch, &at);
        return;
    }
    cr_assert(zero(int, rlog_get_install(&logs[p], &found)));
    cr_assert(eq(u64, found.index, m->install));
    rlog_install(&logs[p], &batch, &found);
    m->snapshot_index = m->gone = m->last = m->install;
    m->snapshot_term = found.term;
    m->conf = m->said = (uint32_t)m->install;
    m->install = 0;
    m->cuts++;
}

static void move(uint32_t p)
{
    uint64_t moved = 0, below = oldest_needed() + 1 + (roll(4) == 0 ? roll(10) : 0);
    if (below > segment_now())
        return;
    cr_assert(zero(int, rlog_move(&logs[p], NULL, below, roll(600), &moved)));
}

static void drop_payloads(uint32_t p)
{
    for (uint64_t i = 0; i < 4 && logs[p].count > 0; i++)
        rlog_drop_payload(&logs[p], logs[p].first + roll(logs[p].count));
}

static void step(uint32_t p)
{
    struct model *m = &model[p];
    switch (roll(12)) {
    case 0:
        m->term += roll(3);
        m->vote = roll(4);
        rlog_put_hard(&logs[p], &batch, m->term, m->vote);
        break;
    case 1:
        cut(p);
        break;
    case 2:
        m->conf++;
        rlog_set_conf(&logs[p], m->conf, conf_of(m->conf));
        trim(p);
        break;
    case 3:
        if (roll(m->install == 0 ? 8 : 2) == 0)
            install(p);
        break;
    case 4:
    case 5:
    case 6:
        move(p);
        break;
    case 7:
        drop_payloads(p);
        break;
    default:
        if (m->install == 0)
            put_at(p, m->last + 1);
    }
}

/* ---- what must hold ---- */

static void check(uint32_t p)
{
    const struct model *m = &model[p];
    const struct rlog *log = &logs[p];
    struct buf bytes = {0};
    cr_assert(log->term == m->term && log->voted_for == m->vote && log->cuts == m->cuts);
    cr_assert(log->snapshot_index == m->snapshot_index && log->first == m->gone + 1);
    cr_assert(eq(u64, log->snapshot_term, m->snapshot_term));
    cr_assert(eq(u64, rlog_last(log), m->last));
    cr_assert(eq(int, log->install.n > 0, m->install != 0));
    for (uint64_t index = m->gone + 1; index <= m->last; index++) {
        struct rcore_entry entry = entry_of(m->terms[index], m->salts[index]);
        const struct rlog_entry *is = rlog_get(log, index);
        cr_assert(is->term == entry.term && is->type == entry.type);
        cr_assert(zero(int, rlog_read(log, NULL, index, &bytes)));
        cr_assert(span_eq(buf_span(&bytes), entry.bytes));
    }
    buf_close(&bytes);
}

static void check_all(void)
{
    for (uint32_t p = 0; p < LOGS; p++)
        check(p);
}

/* The process ends, what is in the batch is lost or not, and another one begins. */
static void restart(bool crash)
{
    if (crash) {
        journal_batch_begin(&batch, batch.at);
        memcpy(model, durable, sizeof model);
    }
    reload();
    for (uint32_t p = 0; p < LOGS; p++) {
        model[p].conf = model[p].said;
        cr_assert(model[p].said == 0 || span_eq(buf_span(&logs[p].conf), conf_of(model[p].said)));
    }
    check_all();
    flush();
    memcpy(durable, model, sizeof model);
}

static void write_frame(void)
{
    flush();
    memcpy(durable, model, sizeof model);
}

static void run(void)
{
    bootstrap_all();
    for (uint32_t p = 0; p < LOGS; p++) {
        rlog_install(&logs[p], &batch, &(struct rlog_snapshot){1, 1, 1, conf_of(1)});
        model[p] = (struct model){.term = 1,
                                  .cuts = 1,
                                  .snapshot_index = 1,
                                  .snapshot_term = 1,
                                  .gone = 1,
                                  .last = 1,
                                  .conf = 1,
                                  .said = 1};
    }
    write_frame();
    for (int i = 0; i < STEPS; i++) {
        step((uint32_t)roll(LOGS));
        if (roll(4) == 0)
            write_frame();
        if (roll(12) == 0) {
            next_segment();
            memcpy(durable, model, sizeof model);
        }
        if (roll(15) == 0) {
            write_frame();
            comes_back();
            check_all();
            drop_below(roll(3) == 0 ? roll(oldest_needed() + 1) : oldest_needed());
        }
        if (roll(25) == 0)
            restart(roll(2) == 0);
    }
    write_frame();
    comes_back();
}

static uint64_t running; /* the seed; 0: none */

static void tell_seed(void)
{
    if (running != 0)
        fprintf(stderr, "LOQUAT_SEED=%lu repeats it\n", (unsigned long)running);
}

TestSuite(rlog_random, .fini = tell_seed, .timeout = 120);

/* Whatever happens, and whenever it ends. */
Test(rlog_random, comes_back)
{
    const char *text = getenv("LOQUAT_SEED");
    uint64_t one = text != NULL ? strtoull(text, NULL, 10) : 0;
    for (uint64_t round = 1; round <= (one != 0 ? 1 : ROUNDS); round++) {
        running = one != 0 ? one : round;
        seed = running;
        run();
        close_all();
        running = 0;
    }
}
