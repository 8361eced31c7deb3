/* store/client/progress.h: how far a long job is: a bar on a terminal, a line now and then
 * elsewhere, on standard error. */
#ifndef LOQUAT_CLIENT_PROGRESS_H
#define LOQUAT_CLIENT_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool terminal;
    uint64_t begun_us, shown_us, shown_count;
    double rate; /* things a second, smoothed */
};

enum { PROGRESS_TICK_MS = 200, PROGRESS_LINE_S = 5 };

void progress_begin(struct progress *progress);
/* Call often; shows something when it is time. `share`: 0 to 1, or negative when not known. */
void progress_show(struct progress *progress, uint64_t count, const char *things, double share);
void progress_end(struct progress *progress); /* clears the bar */
double progress_seconds(const struct progress *progress);

#endif
