#include "bench/lib/metrics.h"

#include <stdlib.h>

double metric_of(struct span text, const char *name)
{
    const char *at = memmem(text.p, text.n, name, strlen(name));
    return at != NULL ? strtod(at + strlen(name), NULL) : 0;
}

static size_t on_bytes(struct net *net, struct span bytes)
{
    (void)net;
    (void)bytes;
    return 0; /* all of it, at the end */
}

static void on_end(struct net *net, const char *why)
{
    struct metrics *metrics = container_of(net, struct metrics, net);
    (void)why; /* the end of the answer, or none: the text says it */
    buf_add_byte(&net->in, 0);
    metrics->asking = false;
    metrics->on_text(metrics, span_of(net->in.p, net->in.n - 1));
    net_close(net);
}

void metrics_open(struct metrics *metrics, const struct gateway *gateway, uv_loop_t *loop,
                  void (*on_text)(struct metrics *metrics, struct span text))
{
    *metrics = (struct metrics){.gateway = gateway, .loop = loop, .on_text = on_text};
    metrics->net.closed = true;
}

void metrics_ask(struct metrics *metrics)
{
    if (metrics->asking || !metrics->net.closed)
        return;
    metrics->asking = true;
    metrics->net = (struct net){.on_bytes = on_bytes, .on_end = on_end};
    metrics->net.data = metrics;
    buf_add_str(&metrics->net.out,
                "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    net_open(&metrics->net, metrics->loop, metrics->gateway->port);
}
