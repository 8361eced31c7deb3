/* bench/lib/town_life.h: what people of a town do, and what they make of what comes: the callbacks
 * that town.c hands out. */
#ifndef LOQUAT_BENCH_TOWN_LIFE_H
#define LOQUAT_BENCH_TOWN_LIFE_H

#include "bench/lib/town.h"

enum { TOWN_TENS_MAX = 16 }; /* members that a conversation of ten may grow to */

void town_on_record(struct follower *follower, struct followed *log, struct span item, bool live);
void town_on_answer(struct follower *follower, uint64_t id, struct span line);
void town_on_live(struct follower *follower, struct span line);
void town_keeper_on_line(struct sock *sock, struct span line);
void town_on_tick(uv_timer_t *timer);
/* The conversation that is followed. */
struct town_conv *town_conv_of(const struct town *town, struct followed *log);

#endif
