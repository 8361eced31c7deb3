#include "bench/lib/peer_read.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- Redis ---- */

struct paging {
    uint64_t got, over;
    size_t left; /* entries of this page to come */
    bool read;   /* by XREAD, whose answer names the stream first */
    char last[64];
};

static void ask_page(struct net *net, const struct paging *paging)
{
    if (paging->read)
        buf_addf(&net->out,
                 "*6\r\n$5\r\nXREAD\r\n$5\r\nCOUNT\r\n$4\r\n%d\r\n$7\r\nSTREAMS\r\n$4\r\nk000\r\n"
                 "$%zu\r\n%s\r\n",
                 PEER_PAGE, strlen(paging->last), paging->last);
    else
        buf_addf(&net->out,
                 "*6\r\n$6\r\nXRANGE\r\n$4\r\nk000\r\n$%zu\r\n(%s\r\n$1\r\n+\r\n$5\r\nCOUNT\r\n"
                 "$4\r\n%d\r\n",
                 strlen(paging->last) + 1, paging->last, PEER_PAGE);
    net_flush(net);
}

/* The line behind `lines` others, or NULL: it is not there yet. */
static const char *skip_lines(const char *at, const char *end, int lines)
{
    for (int i = 0; i < lines && at != NULL; i++) {
        at = memchr(at, '\n', (size_t)(end - at));
        at = at != NULL ? at + 1 : NULL;
    }
    return at;
}

/* "*N" before the entries; of XREAD behind "*1", "*2", "$4", "k000". NULL: not there yet. */
static const char *page_head(struct paging *paging, const char *at, const char *end)
{
    const char *count = *at == '*' && at[1] == '1' && paging->read ? skip_lines(at, end, 4) : at;
    const char *after = count != NULL ? skip_lines(count, end, 1) : NULL;
    if (after == NULL)
        return NULL;
    if (*count != '*')
        bench_fail("Redis refused: %.*s", (int)(end - at), at);
    long n = strtol(count + 1, NULL, 10); /* none: *0, or *-1 */
    paging->left = n > 0 ? (size_t)n : 0;
    paging->over = n <= 0;
    return after;
}

/* "*2", "$n", id, "*2", "$1", b, "$200", text; ids look like 1764100000000-0. */
static const char *page_entry(struct paging *paging, const char *at, const char *end)
{
    const char *id = skip_lines(at, end, 2), *text = id != NULL ? skip_lines(id, end, 5) : NULL;
    if (text == NULL || (size_t)(end - text) < BARE_TEXT + 2)
        return NULL;
    paging->left--;
    paging->got++;
    if (paging->left == 0)
        snprintf(paging->last, sizeof paging->last, "%.*s", (int)strcspn(id, "\r"), id);
    return text + BARE_TEXT + 2;
}

static size_t on_page(struct net *net, struct span bytes)
{
    struct paging *paging = net->data;
    const char *at = bytes.p, *end = bytes.p + bytes.n;
    while (at < end && paging->over == 0) {
        bool head = paging->left == 0;
        const char *after = head ? page_head(paging, at, end) : page_entry(paging, at, end);
        if (after == NULL)
            break;
        at = after;
        if (!head && paging->left == 0)
            ask_page(net, paging);
    }
    return (size_t)(at - bytes.p);
}

static double read_redis(struct peer_load *load, bool read)
{
    struct paging paging = {.read = read, .last = "0-0"};
    struct net *net = &load->conns[0].net;
    net->data = &paging;
    net->on_bytes = on_page;
    double begin = now_s();
    ask_page(net, &paging);
    net_until(load->loop, &paging.over, 1);
    if (paging.got != load->answered)
        bench_fail("Redis gave %llu of %llu entries", (unsigned long long)paging.got,
                   (unsigned long long)load->answered);
    return (double)paging.got / (now_s() - begin);
}

double peer_read_xrange(struct peer_load *load)
{
    return read_redis(load, false);
}

double peer_read_xread(struct peer_load *load)
{
    return read_redis(load, true);
}

/* ---- NATS ---- */

/* MSG SUBJECT SID [REPLY] SIZE, and the body: the subject under which it was published; what the
 * consumer's creation is answered has another. */
static size_t on_pushed(struct net *net, struct span bytes)
{
    uint64_t *got = net->data;
    size_t used = 0;
    while (used < bytes.n) {
        struct span rest = span_of(bytes.p + used, bytes.n - used);
        const char *end = memchr(rest.p, '\n', rest.n);
        if (end == NULL)
            break;
        size_t line = (size_t)(end + 1 - rest.p), body = 0;
        if (memcmp(rest.p, "MSG ", 4) == 0) {
            const char *size = memrchr(rest.p, ' ', line);
            body = strtoul(size, NULL, 10) + 2;
            if (rest.n < line + body)
                break;
            bool pushed = memcmp(rest.p + 4, "bench.", 6) == 0;
            if (!pushed && memmem(end, body, "\"error\"", 7) != NULL)
                bench_fail("NATS refused: %.*s", (int)body, end);
            *got += pushed;
        } else if (memcmp(rest.p, "PING", 4) == 0) {
            buf_add_str(&net->out, "PONG\r\n");
        } else if (memcmp(rest.p, "-ERR", 4) == 0) {
            bench_fail("NATS refused: %.*s", (int)line, rest.p);
        }
        used += line + body;
    }
    net_flush(net);
    return used;
}

double peer_read_nats(struct peer_load *load)
{
    static const char CREATE[] = "{\"stream_name\":\"bench\",\"config\":{\"deliver_subject\":"
                                 "\"out\",\"deliver_policy\":\"all\",\"ack_policy\":\"none\"}}";
    struct net *net = &load->conns[0].net;
    uint64_t got = 0;
    net->data = &got;
    net->on_bytes = on_pushed;
    double begin = now_s();
    buf_addf(&net->out, "SUB out 2\r\nPUB $JS.API.CONSUMER.CREATE.bench reply.0 %zu\r\n%s\r\n",
             sizeof CREATE - 1, CREATE);
    net_flush(net);
    /* The first answer was that of the stream's creation. */
    net_until(load->loop, &got, load->answered - 1);
    double s = now_s() - begin;
    buf_add_str(&net->out, "UNSUB 2\r\n"); /* the consumer goes with it */
    net_flush(net);
    return (double)got / s;
}
