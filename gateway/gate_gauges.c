#include "gateway/gate_gauges.h"

#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/metrics.h"
#include "store/base/pace.h"

#define GAUGES(X)                                                                                  \
    X(CONNS, "loquat_connections", "Connections of clients that are open")                         \
    X(CONNS_MAX, "loquat_connections_max", "Connections that all loops together take")             \
    X(LOOPS, "loquat_loops", "Threads that serve clients")                                         \
    X(LINKED, "loquat_loops_linked", "Of these, how many reach the store; fewer: it is away")      \
    X(NODES, "loquat_loops_node_links", "Links to nodes that are up, over all loops")              \
    X(BEHIND, "loquat_follows_behind", "Logs that clients are behind with, and that are read")     \
    X(OUT, "loquat_out_waiting_bytes", "Bytes that wait for clients; GATE_OUT_MAX for each loop")  \
    X(CALLS, "loquat_upstream_calls", "Requests that the store has not answered")                  \
    X(PAGES, "loquat_upstream_pages_bytes",                                                        \
      "Bytes that the pages being read may have; UPSTREAM_PAGES_MAX for each loop")                \
    X(PENDING, "loquat_upstream_pending_bytes", "Bytes that the store has not taken")

enum gauge {
#define X(id, name, help) GAUGE_##id,
    GAUGES(X)
#undef X
        GAUGE_COUNT
};
_Static_assert((int)GAUGE_COUNT <= (int)GATE_GAUGES_MAX, "room in struct gate");

static struct metric gauges[GAUGE_COUNT] = {
#define X(id, n, h) [GAUGE_##id] = {.name = (n), .help = (h), .type = METRIC_GAUGE},
    GAUGES(X)
#undef X
};

static const char TOOK[] = "From a request to the store until its answer, by kind";
static struct metric took[UPSTREAM_KINDS] = {
    [UPSTREAM_WRITE] = {.name = "loquat_upstream_seconds",
                        .help = TOOK,
                        .labels = "kind=\"write\"",
                        .type = METRIC_HISTOGRAM},
    [UPSTREAM_READ] = {.name = "loquat_upstream_seconds",
                       .help = TOOK,
                       .labels = "kind=\"read\"",
                       .type = METRIC_HISTOGRAM},
    [UPSTREAM_PAGE] = {.name = "loquat_upstream_seconds",
                       .help = TOOK,
                       .labels = "kind=\"page\"",
                       .type = METRIC_HISTOGRAM},
};

void gate_gauges_register(void)
{
    for (int i = 0; i < GAUGE_COUNT; i++)
        metric_register(&gauges[i]);
    for (int i = 0; i < UPSTREAM_KINDS; i++)
        metric_register(&took[i]);
    bounds_register(BOUND_OF_GATEWAY);
    pace_register();
}

static void tell(struct gate *gate, enum gauge gauge, int64_t value)
{
    if (value != gate->told[gauge])
        metric_add(&gauges[gauge], value - gate->told[gauge]);
    gate->told[gauge] = value;
}

void gate_gauges_take(struct gate *gate)
{
    struct cluster *cluster = &gate->cluster;
    int64_t pages = 0, pending = 0, linked = 0;
    for (size_t i = 0; i < cluster->count; i++) {
        struct upstream *up = &cluster->nodes[i].up;
        pages += (int64_t)up->pages;
        pending += up->open ? (int64_t)link_pending(&up->link) : 0;
        linked += up->ready;
        for (int k = 0; k < UPSTREAM_KINDS; k++)
            metric_add_share(&took[k], &up->took[k]);
    }
    tell(gate, GAUGE_CONNS, (int64_t)gate->conn_count);
    tell(gate, GAUGE_CONNS_MAX, (int64_t)gate->settings->conns_max);
    tell(gate, GAUGE_LOOPS, 1);
    tell(gate, GAUGE_LINKED, linked > 0);
    tell(gate, GAUGE_NODES, linked);
    tell(gate, GAUGE_BEHIND, gate->behind);
    tell(gate, GAUGE_OUT, (int64_t)gate->out_pool.bytes);
    tell(gate, GAUGE_CALLS, (int64_t)cluster_calls(cluster));
    tell(gate, GAUGE_PAGES, pages);
    tell(gate, GAUGE_PENDING, pending);
}
