/* bench/lib/sender.h: users who write to a server over WebSockets, each in a direct conversation of
 * its own, with a number of messages unanswered. With receivers, the other one of each pair is
 * connected and live, and a message counts as answered when it has come there, too.
 * Errors: none: see measure.h. */
#ifndef LOQUAT_BENCH_SENDER_H
#define LOQUAT_BENCH_SENDER_H

#include "bench/lib/peer.h"
#include "bench/lib/sock.h"
#include "store/base/ids.h"

struct sender {
    struct sock sock;
    struct senders *all;
    char conv[MADE_ID_SIZE + 1];
    size_t unanswered;
    double answered_s, gap_s; /* the last answer; the longest time between two (senders_watch) */
};
struct senders {
    uv_loop_t *loop;
    struct sender *each;
    struct sock *receivers;
    size_t count, pipeline;
    bool going, watching;
    uint64_t sent, answered, received;
    struct series *latency_ms; /* of what receivers get, when set */
};
void senders_open(struct senders *senders, const struct gateway *gateway, uv_loop_t *loop,
                  size_t count, size_t pipeline);
void senders_receive(struct senders *senders, const struct gateway *gateway);
/* Keeps `pipeline` unanswered for `secs` seconds, then waits for every answer, and every receiver:
 * messages a second. */
double senders_run(struct senders *senders, double secs);
/* One more message of sender `number`, which is to be measured from `at_us` on. */
void senders_one(struct senders *senders, size_t number, uint64_t at_us);
/* Sends at `rate` messages a second for `secs`, each at its time, from which it is measured: a
 * client or server that stalls counts in full. */
void senders_run_at(struct senders *senders, double rate, double secs);
/* From now on it is looked how long each had to wait for an answer. */
void senders_watch(struct senders *senders);
void senders_wait(struct senders *senders);
void senders_close(struct senders *senders, uv_loop_t *loop);

#endif
