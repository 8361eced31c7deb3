/* bench/lib/town.h: people who use one server the way people do: conversations of several sizes,
 * messages at a rate, edits and deletes, pages of history, members that come and go, connections
 * that break and come back and send again, under its cid, what was not answered.
 * Counts:  each write that was acknowledged must be in its log exactly once: sequences are dense,
 *          so the head of a conversation says how many there are. A witness in all conversations
 *          reads all; what it saw is compared with what was acknowledged.
 * Bounds:  TOWN_UNANSWERED_MAX writes of one person; what is due beyond is not sent, and counted.
 * Thread: one. Errors: none: see measure.h; what the server does wrong is counted. */
#ifndef LOQUAT_BENCH_TOWN_H
#define LOQUAT_BENCH_TOWN_H

#include "bench/lib/follower.h"

enum { TOWN_UNANSWERED_MAX = 64 };
enum { TOWN_PAIRS, TOWN_TENS, TOWN_FIFTIES, TOWN_HALL, TOWN_SIZES };

struct town_conv {
    char id[MADE_ID_SIZE + 1];
    uint32_t *members;
    size_t count;
    size_t size;                 /* TOWN_PAIRS, … */
    uint64_t head, written;      /* highest sequence answered; records that were acknowledged */
    uint64_t unsure;             /* that may be there or not: refused after they were sent again */
    uint64_t said_sum, seen_sum; /* over messages acknowledged; that the witness saw */
};
struct town_write; /* unanswered */
struct person {
    struct town_write *writes;
    size_t count;
    uint32_t last_conv; /* of the last message that was acknowledged: to be edited or deleted */
    uint64_t last_seq, doomed_seq;
    uint32_t doomed_conv;
    bool reading; /* a page of history is asked for */
    uint64_t read_from;
    bool read_down;
};
struct town {
    struct gateway *gateway;
    uv_loop_t *loop;
    struct followers people, witness;
    struct person *persons;
    struct town_conv *convs;
    size_t convs_count, first_of[TOWN_SIZES + 1];
    struct sock keeper; /* opens, adds and removes */
    bool keeper_waits;
    uint32_t keeper_conv, keeper_person;
    bool keeper_adds;
    uint64_t asked, number; /* ids of requests; messages */
    uv_timer_t tick;
    double rate, next_us;                 /* messages a second; 0: none */
    size_t unanswered_aim;                /* instead of a rate: so many at once; 0: by rate */
    double event_us;                      /* the next of everything that is no message */
    bool busy;                            /* such things happen */
    bool late;                            /* some writes are to be sent again at their time */
    struct series deliveries_ms, acks_ms; /* emptied by who reads them */
    uint64_t unanswered, said, due, skipped, text_bytes;
    uint64_t edits, deletes, joins, leaves, breaks, pages, again, refused;
    uint64_t wrong; /* pages that are not in order, answers that can't be */
    char why[256];
};
void town_open(struct town *town, struct gateway *gateway, uv_loop_t *loop, size_t people);
/* Everybody comes back; until all is answered, and all hold all: false: not in that time. */
bool town_settle(struct town *town, double secs);
/* How many people do not hold all of a conversation; conversations whose log does not hold what
 * was acknowledged once; and those of which the witness saw something else. */
size_t town_behind(const struct town *town);
size_t town_not_once(const struct town *town);
size_t town_not_seen(const struct town *town);
uint64_t town_records(const struct town *town); /* in all logs */
void town_close(struct town *town);

#endif
