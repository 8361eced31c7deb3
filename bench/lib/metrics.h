/* bench/lib/metrics.h: /metrics of a gateway, asked for again and again on the loop of a bench.
 * Thread: the loop's. Errors: none: see measure.h; what is no answer is handed out as it came. */
#ifndef LOQUAT_BENCH_METRICS_H
#define LOQUAT_BENCH_METRICS_H

#include "bench/lib/net.h"

struct metrics {
    const struct gateway *gateway;
    uv_loop_t *loop;
    void (*on_text)(struct metrics *metrics, struct span text); /* all of it; during the call */
    struct net net;
    bool asking;
};
/* Memory may go after net_settle while nothing is asked for. */
void metrics_open(struct metrics *metrics, const struct gateway *gateway, uv_loop_t *loop,
                  void (*on_text)(struct metrics *metrics, struct span text));
void metrics_ask(struct metrics *metrics); /* nothing, while the last one is under way */
/* The value behind `name`, which is "\nNAME " or "\nNAME{LABELS} "; 0: it is not there. */
double metric_of(struct span text, const char *name);

#endif
