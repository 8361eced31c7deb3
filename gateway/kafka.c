#include "gateway/kafka.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xxhash.h>

#include "gateway/kafka_inside.h"
#include "gateway/secure.h"
#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/base/thread.h"

void kafka_metrics(void)
{
    kafka_conn_metrics();
    kafka_group_metrics();
}

/* ---- accepting ---- */

static void on_listener(uv_poll_t *poll, int status, int events)
{
    struct kafka *kafka = poll->data;
    (void)events;
    while (status == 0) {
        int fd = accept4(kafka->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
            bound_hit(BOUND_CONN_FILES);
            uv_poll_stop(&kafka->listener); /* until the next tick */
            kafka->accepting = false;
        }
        if (fd < 0)
            return;
        if (kafka->conn_count < KAFKA_CONNS_MAX) {
            kafka_conn_open(kafka, fd);
            continue;
        }
        bound_hit(BOUND_KAFKA_CONNS);
        kafka_refused(KAFKA_REFUSED_TOO_MANY);
        close(fd);
    }
}

/* ---- the end: others are told that groups are free, links are closed ---- */

static void close_conns(struct kafka *kafka)
{
    struct list_link *link;
    while ((link = list_first(&kafka->conns)) != NULL)
        kafka_conn_abort(container_of(link, struct kafka_conn, in_kafka));
}

static void stop_step(struct kafka *kafka)
{
    if (kafka->stop == KAFKA_LEAVING &&
        (kafka->leaving == 0 || kafka_now(kafka) >= kafka->stop_ms)) {
        kafka->stop = KAFKA_CLOSING;
        cluster_close(&kafka->cluster);
    } else if (kafka->stop == KAFKA_CLOSING && cluster_closed(&kafka->cluster)) {
        kafka->stop = KAFKA_ENDED;
        uv_close((uv_handle_t *)&kafka->timer, NULL);
        uv_close((uv_handle_t *)&kafka->async, NULL);
        uv_close((uv_handle_t *)&kafka->prepare, NULL);
        uv_close((uv_handle_t *)&kafka->listener, NULL);
    }
}

static void on_timer(uv_timer_t *timer);

static void on_async(uv_async_t *async)
{
    struct kafka *kafka = async->data;
    if (kafka->stop != KAFKA_RUNNING)
        return;
    kafka->stop = KAFKA_LEAVING;
    kafka->stop_ms = kafka_now(kafka) + KAFKA_STOP_MS;
    uv_poll_stop(&kafka->listener);
    shutdown(kafka->listen_fd, SHUT_RDWR);
    kafka_groups_leave(kafka);
    close_conns(kafka);
    uv_timer_start(&kafka->timer, on_timer, 0, KAFKA_STOP_TICK_MS);
}

/* ---- the loop ---- */

static void flush(struct kafka *kafka)
{
    struct list_link *link;
    while ((link = list_pop(&kafka->dirty)) != NULL)
        kafka_conn_flush(container_of(link, struct kafka_conn, in_dirty));
}

static void on_prepare(uv_prepare_t *prepare)
{
    flush(prepare->data);
}

static void on_timer(uv_timer_t *timer)
{
    struct kafka *kafka = timer->data;
    cluster_tick(&kafka->cluster);
    if (kafka->stop != KAFKA_RUNNING) {
        stop_step(kafka);
        return;
    }
    if (!kafka->accepting && cluster_ready(&kafka->cluster)) {
        uv_poll_start(&kafka->listener, UV_READABLE, on_listener);
        kafka->accepting = true;
    }
    for (struct list_link *link = list_first(&kafka->conns), *next; link != NULL; link = next) {
        next = list_next(&kafka->conns, link);
        kafka_conn_tick(container_of(link, struct kafka_conn, in_kafka));
    }
    kafka_fetch_tick(kafka);
    kafka_groups_tick(kafka);
}

static void *run(void *arg)
{
    struct kafka *kafka = arg;
    uv_run(&kafka->loop, UV_RUN_DEFAULT);
    return NULL;
}

static void init_handles(struct kafka *kafka)
{
    int rv = uv_loop_init(&kafka->loop);
    if (rv != 0)
        log_fatal("no event loop could be made", uv_strerror(rv));
    uv_timer_init(&kafka->loop, &kafka->timer);
    uv_async_init(&kafka->loop, &kafka->async, on_async);
    uv_prepare_init(&kafka->loop, &kafka->prepare);
    rv = uv_poll_init(&kafka->loop, &kafka->listener, kafka->listen_fd);
    ASSERT(rv == 0);
    kafka->timer.data = kafka->async.data = kafka->prepare.data = kafka->listener.data = kafka;
    uv_timer_start(&kafka->timer, on_timer, KAFKA_TICK_MS, KAFKA_TICK_MS);
    uv_prepare_start(&kafka->prepare, on_prepare);
}

/* Each gateway is a broker of its own, known by where it is. */
static void name_broker(struct kafka *kafka, const struct address *advertise)
{
    unsigned char bytes[8];
    char where[ADDRESS_HOST_MAX + ADDRESS_PORT_MAX];
    kafka->advertise = *advertise;
    kafka->port = (int32_t)strtol(advertise->port, NULL, 10);
    int n = snprintf(where, sizeof where, "%s:%s", advertise->host, advertise->port);
    kafka->node = (int32_t)(XXH3_64bits(where, (size_t)n) & INT32_MAX);
    random_bytes(bytes, sizeof bytes);
    memcpy(kafka->worker, "kafka-", 6);
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(kafka->worker + 6 + 2 * i, 3, "%02x", bytes[i]);
}

struct kafka *kafka_start(struct settings *settings, int fd, const struct address *advertise)
{
    struct kafka *kafka = xcalloc(1, sizeof *kafka);
    kafka->settings = settings;
    kafka->listen_fd = fd;
    name_broker(kafka, advertise);
    list_init(&kafka->conns);
    list_init(&kafka->dirty);
    list_init(&kafka->waiting);
    list_init(&kafka->groups);
    kafka->in = xmalloc(KAFKA_IN_BYTES);
    kafka->plain = settings->tls != NULL ? xmalloc(SECURE_PLAIN_BYTES) : NULL;
    init_handles(kafka);
    cluster_init(&kafka->cluster, &kafka->loop, settings->nodes, settings->node_count,
                 &CLUSTER_FOLLOWS_NOTHING, kafka);
    if (settings->node_count == 0) {
        int link = settings->connect(settings->connect_arg);
        if (link < 0 || cluster_open(&kafka->cluster, link) != 0)
            log_fatal("no link to the store could be opened", "");
    }
    thread_start(&kafka->thread, "kafka", run, kafka);
    return kafka;
}

void kafka_stop(struct kafka *kafka)
{
    uv_async_send(&kafka->async);
    pthread_join(kafka->thread, NULL);
    ASSERT(kafka->conn_count == 0 && kafka->group_count == 0);
    int rv = uv_loop_close(&kafka->loop);
    ASSERT(rv == 0);
    cluster_free(&kafka->cluster);
    kafka_fetch_close(kafka);
    out_pool_close(&kafka->out_pool);
    close(kafka->listen_fd);
    free(kafka->in);
    free(kafka->plain);
    free(kafka);
}
