/* bench/lib/profile.h: how often messages are edited, reacted to, have files: discord-profile.json
 * (counts of a public archive) beside the chat archive, or the same counts, shortened, where that
 * is not there.
 * Errors: none: see measure.h. */
#ifndef LOQUAT_BENCH_PROFILE_H
#define LOQUAT_BENCH_PROFILE_H

#include "store/base/ids.h"

enum { PROFILE_COUNTS_MAX = 128 };

/* Values, and how often each was counted. */
struct profile_counts {
    char names[PROFILE_COUNTS_MAX][EMOJI_MAX + 1];
    uint64_t up_to[PROFILE_COUNTS_MAX]; /* this one and those before */
    size_t count;
};
struct profile {
    double edited, reacted, filed, mentioning; /* shares of messages, 0 to 1 */
    struct profile_counts kinds;               /* of emoji, on a message that has reactions */
    struct profile_counts votes;               /* for one emoji on one message */
    struct profile_counts emojis;              /* of all votes */
    struct profile_counts files;               /* bytes, by the power of two above */
    bool found;                                /* it was read from the file */
};
void profile_read(struct profile *profile, const char *path);
/* One of them at random, as often as it was counted. */
const char *profile_draw(const struct profile_counts *counts);
size_t profile_draw_number(const struct profile_counts *counts); /* "<512" is 512 */

#endif
