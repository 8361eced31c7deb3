/* bench/lib/crowd.h: very many users of one server, each on a WebSocket that lives through the
 * server's end: who was cut off comes back, and goes on from what it has seen.
 * Users:  in blocks of CROWD_ROOM; each is in CROWD_LAYERS rooms of that many, no two of which have
 *         the same people, and in one hall of at most CROWD_HALL. One keeper opens them all, is a
 *         member of each, and is never live.
 * Counts: every record of a room or hall must be the one after the last; `missed` and `twice` say
 *         where it was not.
 * Thread: one. Errors: none: see measure.h; what the server does wrong is counted. */
#ifndef LOQUAT_BENCH_CROWD_H
#define LOQUAT_BENCH_CROWD_H

#include "bench/lib/sock.h"
#include "store/base/ids.h"

enum { CROWD_ROOM = 10, CROWD_LAYERS = 3, CROWD_HALL = 500, CROWD_IN = CROWD_LAYERS + 1 };
/* Addresses it connects from. The kernel finds a free port of one at once while fewer than a
 * quarter of its range (7,058) are taken; then each bind looks through all of them first. */
enum { CROWD_SOURCES = 32 };
enum { CROWD_ORDERLY = 256 }; /* on their way at once, when they come in good order */

struct crowd_room {
    char id[MADE_ID_SIZE + 1];
    uint64_t head; /* when it was opened; a writer may raise it */
};
struct crowd_client {
    struct sock sock; /* first: what has ended is told by it */
    struct crowd *crowd;
    bool begun, live;
    double due_s, begun_s, sync_s; /* sync_s: when to ask for sync again; 0: not */
    uint64_t seen[CROWD_IN];       /* last sequence of each of its rooms, the hall last */
};
struct crowd {
    struct gateway *gateway;
    uv_loop_t *loop;
    size_t all;                 /* users that there are */
    size_t part, parts;         /* of them here: part, part + parts, … (crowd_split) */
    size_t count;               /* so many */
    size_t blocks, rooms_count; /* rooms of all layers, then the halls */
    struct crowd_room *rooms;
    struct crowd_client *clients;
    struct sock keeper;
    uv_timer_t tick;
    bool coming; /* who is not there comes (back) when it is due */
    size_t opening, opening_max;
    uint64_t live, received, missed, twice, lags;
    uint64_t ended, failed;    /* connections that ended while live; before */
    uint64_t refused;          /* syncs that were to be asked again */
    bool may_refuse;           /* what was said may be refused, too: */
    uint64_t unsaid;           /* then it counts here, and not as asked */
    char why[128];             /* of the last of either */
    struct series join_ms;     /* from connecting to the answer of sync */
    struct series *latency_ms; /* of stamped records (crowd_say), when set */
    uint64_t asked, answered;
};
/* At most what descriptors allow, and whole blocks; says so when that is less. */
size_t crowd_fit(size_t wanted);
void crowd_open(struct crowd *crowd, struct gateway *gateway, uv_loop_t *loop, size_t count);
/* In a process of its own, made by fork after crowd_open: only one of `parts` parts of the users is
 * here from now on, on a loop of its own, and connects to `gateway`. */
void crowd_split(struct crowd *crowd, struct gateway *gateway, uv_loop_t *loop, size_t part,
                 size_t parts);
/* Everybody comes, each at a random time within `jitter_s`, and no more than `opening_max` on their
 * way at once (0: no bound). */
void crowd_come(struct crowd *crowd, double jitter_s, size_t opening_max);
void crowd_reset(struct crowd *crowd); /* cuts all connections; returns when they are closed */
bool crowd_all_live(struct crowd *crowd, double secs); /* waits for it; false: not in that time */
/* A message of client `i` of those here into its room `layer`, stamped with `at_us`. */
void crowd_say(struct crowd *crowd, size_t i, size_t layer, uint64_t at_us);
size_t crowd_room_of(const struct crowd *crowd, size_t number, size_t in);
void crowd_close(struct crowd *crowd);

#endif
