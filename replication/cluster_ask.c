#include "replication/cluster_ask.h"

#include "store/base/check.h"
#include "store/base/dial.h"
#include "store/base/err.h"
#include "store/base/link.h"
#include "store/base/wire.h"

struct asked {
    struct asking *asking;
    size_t number;
    struct dial_target target;
    struct dial dial;
    struct link link;
    bool linked;
};

struct asking {
    uv_loop_t loop;
    uv_timer_t timer;
    size_t count, open;
    bool ended;
    const Loquat__ClusterAsk *ask;
    struct arena *arena;
    Loquat__ClusterState **answers;
    struct asked each[ROSTER_NODES_MAX];
};

static void on_stopped(void *arg)
{
    (void)arg;
}

static void end(struct asked *asked)
{
    dial_stop(&asked->dial);
    if (asked->linked)
        link_close(&asked->link, ERR_CLOSED);
}

static void end_all(struct asking *asking)
{
    if (asking->ended)
        return;
    asking->ended = true;
    for (size_t i = 0; i < asking->count; i++)
        end(&asking->each[i]);
    uv_close((uv_handle_t *)&asking->timer, NULL);
}

static void on_message(struct link *link, int type, struct span body)
{
    struct asked *asked = container_of(link, struct asked, link);
    struct asking *asking = asked->asking;
    if (type != LINK_CLUSTER_STATE || asking->answers[asked->number] != NULL)
        return;
    asking->answers[asked->number] =
        loquat__cluster_state__unpack(&asking->arena->allocator, body.n, (const uint8_t *)body.p);
    if (--asking->open == 0)
        end_all(asking);
}

static void on_close(struct link *link, int err)
{
    (void)err;
    container_of(link, struct asked, link)->linked = false; /* it is not asked again */
}

static void send_message(struct link *link, int type, const ProtobufCMessage *message)
{
    char *room = link_send_begin(link, type, protobuf_c_message_get_packed_size(message));
    if (room != NULL)
        protobuf_c_message_pack(message, (uint8_t *)room);
}

static void on_link(void *arg, struct line line)
{
    static const struct link_ops OPS = {.on_message = on_message, .on_close = on_close};
    struct asked *asked = arg;
    asked->linked = true;
    if (link_open(&asked->link, &asked->asking->loop, line, &OPS) != 0)
        return;
    Loquat__Hello hello = LOQUAT__HELLO__INIT;
    hello.version = WIRE_VERSION;
    hello.name = (char *)(uintptr_t) "loquat-node cluster";
    send_message(&asked->link, LINK_HELLO, &hello.base);
    send_message(&asked->link, LINK_CLUSTER_ASK, &asked->asking->ask->base);
}

static void on_timer(uv_timer_t *timer)
{
    end_all(container_of(timer, struct asking, timer));
}

void cluster_ask(const struct roster *roster, struct span secret, struct tls *tls,
                 const Loquat__ClusterAsk *ask, struct arena *arena,
                 Loquat__ClusterState *answers[ROSTER_NODES_MAX])
{
    static struct asking asking;
    asking = (struct asking){.count = roster->count,
                             .open = roster->count,
                             .ask = ask,
                             .arena = arena,
                             .answers = answers};
    int rv = uv_loop_init(&asking.loop);
    ASSERT(rv == 0);
    uv_timer_init(&asking.loop, &asking.timer);
    uv_timer_start(&asking.timer, on_timer, CLUSTER_ASK_MS, 0);
    for (size_t i = 0; i < roster->count; i++) {
        struct asked *asked = &asking.each[i];
        answers[i] = NULL;
        asked->asking = &asking;
        asked->number = i;
        asked->target = (struct dial_target){.address = roster->nodes[i].address,
                                             .role = HANDSHAKE_GATEWAY,
                                             .secret = secret,
                                             .tls = tls};
        memcpy(asked->target.name, roster->nodes[i].name, sizeof asked->target.name);
        dial_init(&asked->dial, &asking.loop, &asked->target, on_link, on_stopped, asked);
        dial_start(&asked->dial);
    }
    uv_run(&asking.loop, UV_RUN_DEFAULT);
    rv = uv_loop_close(&asking.loop);
    ASSERT(rv == 0);
}
