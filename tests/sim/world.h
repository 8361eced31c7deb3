/* tests/sim/world.h: what the real replication code stands on in a simulation, in place of RocksDB,
 * threads, sockets and clocks: sim_kv.c, sim_journal.c, sim_wal.c, sim_applier.c and sim_rest.c
 * define the functions of store/kv.h, replication/journal.h, wal.h, applier.h, watermark.h and
 * store/base/clock.h. One
 * thread, one seed: the same run again.
 * Time:  milliseconds of `sim_now_ms`, which only the world moves. */
#ifndef LOQUAT_TESTS_SIM_WORLD_H
#define LOQUAT_TESTS_SIM_WORLD_H

#include "replication/applier.h"
#include "replication/rlog.h"
#include "replication/wal.h"
#include "replication/watermark.h"

extern uint64_t sim_now_ms, sim_seed; /* the dice of everything */
extern unsigned sim_slow;             /* percent of writes and batches that take long */
uint64_t sim_roll(uint64_t sides);
bool sim_chance(unsigned percent);

/* A planted bug, by name; at most one in a run. The simulation must find it. */
bool sim_mutant(const char *name);
void sim_set_mutant(const char *name);

/* A database: rows as they are, and as a crash leaves them. */
struct kv *sim_kv_new(void);
void sim_kv_free(struct kv *kv);
void sim_kv_flush(struct kv *kv); /* all that was written stays from now on */
void sim_kv_crash(struct kv *kv); /* back to the last flush */
void sim_kv_clear(struct kv *kv);
/* An installation of staged rows has come to its half: the process ends now. */
bool sim_kv_torn(struct kv *kv);
extern uint64_t sim_installs; /* begun */
extern uint64_t sim_resumes;  /* of stages, that then went on */
uint64_t sim_kv_hash(struct kv *kv, enum kv_cf cf);

/* A journal: what was written, and stays through crashes. */
struct journal *sim_journal_new(void);
void sim_journal_free(struct journal *journal);
void sim_journal_clear(struct journal *journal);
int sim_journal_load(struct journal *journal, struct rlog *log); /* of partition 0 */
uint64_t sim_journal_next(const struct journal *journal);        /* where a start goes on */
void sim_journal_damage(
    struct journal *journal); /* its end is gone in silence, if entries are in it */
bool sim_journal_has(const struct journal *journal, uint64_t index, uint64_t term); /* an entry */
/* Whether entries of the batch take the place of others. */
bool sim_journal_cuts(const struct journal *journal, const struct journal_batch *batch);

/* The next moment something of it is done; UINT64_MAX: nothing is under way. */
uint64_t sim_wal_due(const struct wal *wal);
void sim_wal_work(struct wal *wal);
void sim_wal_slow(struct wal *wal, unsigned ms); /* what long is, of this one */
bool sim_wal_cuts(const struct wal *wal);        /* what waits to be written takes entries away */
void sim_wal_crash(struct wal *wal); /* what is under way is on disk whole, or not at all; freed */
uint64_t sim_applier_due(const struct applier *applier);
void sim_applier_work(struct applier *applier);
void sim_applier_crash(struct applier *applier); /* jobs are gone; freed */

struct watermark *sim_mark_new(void);
void sim_mark_free(struct watermark *mark);
void sim_mark_power_cut(struct watermark *mark); /* back to what was synced */

#endif
