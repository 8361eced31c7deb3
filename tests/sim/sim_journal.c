/* tests/sim/sim_journal.c: replication/journal.h in memory: what was written whole, in segments
 * that are small. What stands in those that were released is gone, now or later. */
#include <stdlib.h>

#include "replication/rlog_inside.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "tests/sim/world.h"

enum { SEGMENT = 6000 };

struct frame {
    uint64_t at;
    struct buf bytes; /* as of a batch, with a head */
};
struct journal {
    struct frame *frames;
    size_t count, cap;
    char first_vote[RLOG_HARD_SIZE]; /* HARD, as it was written first */
    bool voted;
    uint64_t last; /* index of the entry that was written last */
};

uint64_t journal_after(const struct journal_batch *batch)
{
    uint64_t end = batch->at + batch->n;
    return (end & UINT32_MAX) < SEGMENT ? end : (journal_segment(end) + 1) << 32;
}

/* ---- records ---- */

struct record {
    enum rlog_type type;
    struct span whole, body;
};

static bool next_record(struct span *rest, struct record *record)
{
    if (rest->n == 0)
        return false;
    size_t size = RLOG_RECORD_HEAD + get_le32(rest->p + 4);
    ASSERT(size <= rest->n);
    record->type = (enum rlog_type)rest->p[0];
    record->whole = span_of(rest->p, size);
    record->body = span_of(rest->p + RLOG_RECORD_HEAD, size - RLOG_RECORD_HEAD);
    *rest = span_of(rest->p + size, rest->n - size);
    return true;
}

static struct span records_of(const char *p, size_t n)
{
    return n > JOURNAL_HEAD ? span_of(p + JOURNAL_HEAD, n - JOURNAL_HEAD) : (struct span){0};
}

static bool has_entries(const struct frame *frame)
{
    struct span rest = records_of(frame->bytes.p, frame->bytes.n);
    for (struct record record; next_record(&rest, &record);)
        if (record.type == RLOG_ENTRY)
            return true;
    return false;
}

bool sim_journal_cuts(const struct journal *journal, const struct journal_batch *batch)
{
    struct span rest = records_of(batch->p, batch->n);
    for (struct record record; next_record(&rest, &record);)
        if (record.type == RLOG_ENTRY && get_le64(record.body.p) <= journal->last)
            return true;
    return false;
}

bool sim_journal_has(const struct journal *journal, uint64_t index, uint64_t term)
{
    for (size_t i = journal->count; i-- > 0;) {
        struct span rest = records_of(journal->frames[i].bytes.p, journal->frames[i].bytes.n);
        for (struct record record; next_record(&rest, &record);)
            if ((record.type == RLOG_ENTRY || record.type == RLOG_MOVED) &&
                get_le64(record.body.p) == index && get_le64(record.body.p + 8) == term)
                return true;
    }
    return false;
}

/* ---- the journal ---- */

struct journal *sim_journal_new(void)
{
    return xcalloc(1, sizeof(struct journal));
}

void sim_journal_clear(struct journal *journal)
{
    for (size_t i = 0; i < journal->count; i++)
        buf_close(&journal->frames[i].bytes);
    journal->count = 0;
    journal->voted = false;
}

void sim_journal_free(struct journal *journal)
{
    sim_journal_clear(journal);
    free(journal->frames);
    free(journal);
}

/* A planted bug: terms and votes stay what they were first. */
static void forget_vote(struct journal *journal, const struct record *record)
{
    char *body = (char *)(uintptr_t)record->body.p;
    if (!journal->voted)
        memcpy(journal->first_vote, body, RLOG_HARD_SIZE);
    else if (sim_mutant("vote-lost"))
        memcpy(body, journal->first_vote, RLOG_HARD_SIZE);
    journal->voted = true;
}

int journal_write(struct journal *journal, struct journal_batch *batch)
{
    if (journal->count == journal->cap) {
        journal->cap = journal->cap == 0 ? 64 : journal->cap * 2;
        journal->frames = xrealloc(journal->frames, journal->cap * sizeof *journal->frames);
    }
    struct frame *frame = &journal->frames[journal->count++];
    *frame = (struct frame){.at = batch->at};
    buf_add(&frame->bytes, batch->p, batch->n);
    struct span rest = records_of(frame->bytes.p, frame->bytes.n);
    for (struct record record; next_record(&rest, &record);) {
        if (record.type == RLOG_HARD)
            forget_vote(journal, &record);
        else if (record.type == RLOG_ENTRY)
            journal->last = get_le64(record.body.p);
    }
    return 0;
}

void sim_journal_damage(struct journal *journal)
{
    if (journal->count > 0 && has_entries(&journal->frames[journal->count - 1]))
        buf_close(&journal->frames[--journal->count].bytes);
}

void journal_release(struct journal *journal, uint64_t segment)
{
    size_t gone = 0;
    if (sim_chance(50))
        return;
    while (gone < journal->count && journal_segment(journal->frames[gone].at) < segment)
        buf_close(&journal->frames[gone++].bytes);
    memmove(journal->frames, journal->frames + gone,
            (journal->count - gone) * sizeof *journal->frames);
    journal->count -= gone;
}

int journal_read(struct journal *journal, uint64_t at, char *to, size_t n)
{
    for (size_t i = journal->count; i-- > 0;) {
        const struct frame *frame = &journal->frames[i];
        if (at < frame->at || at - frame->at > frame->bytes.n ||
            n > frame->bytes.n - (at - frame->at))
            continue;
        memcpy(to, frame->bytes.p + (at - frame->at), n);
        return 0;
    }
    return ERR_CORRUPT;
}

int sim_journal_load(struct journal *journal, struct rlog *log)
{
    int err = 0;
    rlog_open(log, 0);
    for (size_t i = 0; err == 0 && i < journal->count; i++) {
        const struct frame *frame = &journal->frames[i];
        err =
            rlog_take(log, 1, frame->at + JOURNAL_HEAD, records_of(frame->bytes.p, frame->bytes.n));
    }
    return err == 0 ? rlog_finish(log) : err;
}

uint64_t sim_journal_next(const struct journal *journal)
{
    return journal->count == 0
               ? UINT64_C(1) << 32
               : (journal_segment(journal->frames[journal->count - 1].at) + 1) << 32;
}
