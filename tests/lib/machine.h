/* tests/lib/machine.h: the state machine of one partition alone, driven entry by entry: what
 * replication does to it, without consensus. Effects go back into the same partition at once.
 * Keeps every entry, so that a crash can be followed by a replay.
 * Errors: none: what must not fail is asserted. */
#ifndef LOQUAT_TESTS_MACHINE_H
#define LOQUAT_TESTS_MACHINE_H

#include "store/apply.h"
#include "store/command.h"
#include "tests/lib/scratch.h"

struct machine {
    char root[SCRATCH_MAX], dir[SCRATCH_MAX + 16];
    unsigned lives; /* directories used so far */
    struct kv *kv;
    struct apply *apply;
    struct kv_batch batch;
    struct applied applied;    /* of the last entry of machine_entry */
    struct applied *unwritten; /* of those before it in the batch */
    size_t unwritten_count, unwritten_cap;
    struct arena arena; /* of what was read; reset by the caller */
    uint64_t now_ms;
    struct buf *entries; /* entry i has index i + 1 */
    size_t count, cap;
};

void machine_open(struct machine *machine);
void machine_close(struct machine *machine);

/* One entry with these commands, applied and written; effects delivered. Results are in
 * machine->applied until the next call. */
void machine_entry(struct machine *machine, Loquat__Command *const *commands, size_t count);
struct apply_result machine_do(struct machine *machine, const Loquat__Command *command);
/* The entry as another replica got it: applied into the open batch; machine_write ends it. */
void machine_replay(struct machine *machine, struct span entry);
void machine_write(struct machine *machine);
void machine_flush(struct machine *machine);
void machine_seal(struct machine *machine);
/* Ends without a flush, opens what is on disk, and applies the entries again that it lacks. */
void machine_crash(struct machine *machine);
void machine_restart(struct machine *machine); /* the same after an orderly close */

/* One page. The reply lives in machine->arena. */
int machine_range(struct machine *machine, Loquat__Read *read, Loquat__Reply *reply);
int machine_read(struct machine *machine, Loquat__Read *read, Loquat__Reply *reply);
/* What `user` sees of a conversation; NULL: nothing. */
Loquat__ConvInfo *machine_conv(struct machine *machine, const char *user, const char *conv);

/* XXH3 of every row of every family, in order. */
uint64_t machine_digest(struct machine *machine);

/* One page of a search in these conversations, in the machine's arena; `below`: 0, or where the
 * page before ended. *damaged: as search_read says. */
enum { MACHINE_SEARCH_MAX = 64 };
Loquat__Reply machine_search(struct machine *m, struct kv *index, const char *user, const char *q,
                             char (*convs)[64], size_t count, uint64_t below, uint32_t max,
                             bool *damaged);

#endif
