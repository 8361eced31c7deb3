/* tests/faults/power_disk.h: a disk that loses power: what of a data directory was written and not
 * synced, and what a power cut leaves of it.
 *   Ends     of files, beyond what a sync covered: they end anywhere, and sectors are not there
 *   Sectors  that were overwritten in place in the journal, and ends that were cut off there: as
 *            they are now or as they were before, each for itself
 *   Names    that came, went or were exchanged without a sync of their directory: likewise
 * What was synced is seen by functions that stand before libc's.
 * Thread: the functions that stand before libc's: any, also in children; the rest: one, while no
 * child runs. */
#ifndef LOQUAT_TESTS_POWER_DISK_H
#define LOQUAT_TESTS_POWER_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct power_lost {
    unsigned long bytes, sectors, files, names_gone, names_back;
    unsigned long rewritten, undone; /* sectors in place: not synced yet; of these, as before */
};

/* The directory is ROOT/data; ROOT/grave is for what lost its name. Before any child. */
void power_open(const char *root);
void power_close(void);
/* What was synced is on the disk, what was not may be. */
void power_cut(uint64_t *seed, struct power_lost *lost);

#endif
