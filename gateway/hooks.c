#include "gateway/hooks.h"

#include <stdio.h>
#include <stdlib.h>

#include "gateway/hook.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "store/base/metrics.h"
#include "store/base/thread.h"

static struct metric webhooks = {.name = "loquat_webhooks",
                                 .help = "Webhooks that this gateway has a part in",
                                 .type = METRIC_GAUGE};

void hooks_metrics(void)
{
    metric_register(&webhooks);
    hook_metrics();
}

/* ---- one webhook ---- */

static void end_pumps(struct hook *hook)
{
    for (struct list_link *link = list_first(&hook->pumps), *next; link != NULL; link = next) {
        struct pump *pump = container_of(link, struct pump, in_hook);
        next = list_next(&hook->pumps, link);
        if (!pump->ended)
            pump_end(pump);
    }
}

static void hook_free(struct hook *hook) /* in no list */
{
    loquat__webhook__free_unpacked(hook->webhook, NULL);
    metric_add(&webhooks, -1);
    free(hook);
}

void hook_settle(struct hook *hook)
{
    if (!hook->gone || hook->joining || hook->ending || !list_empty(&hook->pumps))
        return;
    list_remove(&hook->in_hooks);
    hook_free(hook);
}

static void drop_hook(struct hook *hook)
{
    hook->gone = hook->ending = true; /* ending: it stays while its pumps go */
    end_pumps(hook);
    hook->ending = false;
    hook_settle(hook);
}

void hook_rejoin(struct hook *hook)
{
    hook->join_ms = 0;
}

static struct pump *pump_of(const struct hook *hook, uint32_t partition)
{
    for (struct list_link *link = list_first(&hook->pumps); link != NULL;
         link = list_next(&hook->pumps, link)) {
        struct pump *pump = container_of(link, struct pump, in_hook);
        if (pump->partition == partition && !pump->ended)
            return pump;
    }
    return NULL;
}

/* Of the workers in the order of their names this is number `at` of `count`. */
static void take_share(struct hook *hook, size_t at, size_t count)
{
    for (uint32_t p = 0; p < hook->hooks->cluster.partitions; p++) {
        struct pump *pump = pump_of(hook, p);
        bool ours = count > 0 && p % count == at;
        if (pump != NULL && !ours)
            pump_end(pump);
        else if (pump == NULL && ours)
            pump_step(pump_new(hook, p));
    }
}

static void on_share(void *owner, const Loquat__Reply *reply)
{
    struct hook *hook = owner;
    struct hooks *hooks = hook->hooks;
    hook->joining = false;
    if (hook->gone || hooks_stopping(hooks) || reply->err != 0 || reply->n_consumers != 1) {
        hook_settle(hook);
        return;
    }
    const Loquat__Consumer *consumer = reply->consumers[0];
    size_t at = 0, count = consumer->n_workers;
    while (at < count && strcmp(consumer->workers[at]->name, hooks->worker) != 0)
        at++;
    hook->generation = consumer->generation;
    if (at < count)
        take_share(hook, at, count);
    else /* not heard of for too long */
        end_pumps(hook);
    hook->join_ms = hooks_now(hooks) + (at < count ? HOOK_JOIN_MS : HOOKS_LOOK_MS);
}

static void on_joined(void *owner, const Loquat__Reply *reply)
{
    struct hook *hook = owner;
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_CONSUMERS;
    read.conv = hook->name;
    if (reply->err == 0 && !hook->gone && !hooks_stopping(hook->hooks) &&
        cluster_read(&hook->hooks->cluster, &read, on_share, hook) == 0)
        return;
    hook->joining = false;
    hook_settle(hook);
}

static Loquat__Command worker_command(struct hook *hook, uint64_t ttl_ms)
{
    Loquat__Command command = LOQUAT__COMMAND__INIT;
    command.op = LOQUAT__OP__OP_WORKER;
    command.user = command.worker = hook->hooks->worker;
    command.consumer = hook->name;
    command.ttl_ms = ttl_ms;
    return command;
}

static void join(struct hook *hook)
{
    Loquat__Command command = worker_command(hook, HOOK_TTL_MS);
    hook->join_ms = hooks_now(hook->hooks) + HOOKS_LOOK_MS; /* should it fail */
    hook->joining = cluster_write(&hook->hooks->cluster, 0, &command, on_joined, hook) == 0;
}

/* ---- all of them ---- */

static struct hook *find_hook(const struct hooks *hooks, const char *name)
{
    for (struct list_link *link = list_first(&hooks->hooks); link != NULL;
         link = list_next(&hooks->hooks, link)) {
        struct hook *hook = container_of(link, struct hook, in_hooks);
        if (strcmp(hook->name, name) == 0 && !hook->gone)
            return hook;
    }
    return NULL;
}

static Loquat__Webhook *copy_webhook(const Loquat__Webhook *webhook)
{
    struct buf packed = {0};
    size_t size = loquat__webhook__get_packed_size(webhook);
    loquat__webhook__pack(webhook, (uint8_t *)buf_grow(&packed, size));
    Loquat__Webhook *copy = loquat__webhook__unpack(NULL, size, (const uint8_t *)packed.p);
    if (copy == NULL)
        check_no_memory(size);
    buf_close(&packed);
    return copy;
}

static void take_consumer(struct hooks *hooks, const Loquat__Consumer *consumer)
{
    if (consumer->webhook == NULL || strlen(consumer->name) > USER_MAX)
        return;
    struct hook *hook = find_hook(hooks, consumer->name);
    if (hook == NULL) {
        hook = xcalloc(1, sizeof *hook);
        hook->hooks = hooks;
        snprintf(hook->name, sizeof hook->name, "%s", consumer->name);
        list_init(&hook->pumps);
        list_push(&hooks->hooks, &hook->in_hooks);
        metric_add(&webhooks, 1);
    }
    hook->there = true;
    if (hook->webhook != NULL)
        loquat__webhook__free_unpacked(hook->webhook, NULL);
    hook->webhook = copy_webhook(consumer->webhook);
}

static void look(struct hooks *hooks);

static void on_look(void *owner, const Loquat__Reply *reply)
{
    struct hooks *hooks = owner;
    hooks->looking = false;
    if (reply->err != 0 || hooks_stopping(hooks))
        return;
    for (size_t i = 0; i < reply->n_consumers; i++)
        take_consumer(hooks, reply->consumers[i]);
    snprintf(hooks->after, sizeof hooks->after, "%s", reply->after);
    if (hooks->after[0] != 0) {
        look(hooks);
        return;
    }
    for (struct list_link *link = list_first(&hooks->hooks), *next; link != NULL; link = next) {
        struct hook *hook = container_of(link, struct hook, in_hooks);
        next = list_next(&hooks->hooks, link);
        if (!hook->there && !hook->gone)
            drop_hook(hook);
    }
}

static void look(struct hooks *hooks)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_CONSUMERS;
    read.after = hooks->after;
    hooks->looking = cluster_read(&hooks->cluster, &read, on_look, hooks) == 0;
}

static void begin_look(struct hooks *hooks)
{
    hooks->look_ms = hooks_now(hooks) + HOOKS_LOOK_MS;
    hooks->after[0] = '\0';
    for (struct list_link *link = list_first(&hooks->hooks); link != NULL;
         link = list_next(&hooks->hooks, link))
        container_of(link, struct hook, in_hooks)->there = false;
    look(hooks);
}

static void step_hook(struct hook *hook)
{
    if (!hook->joining && hooks_now(hook->hooks) >= hook->join_ms)
        join(hook);
    for (struct list_link *link = list_first(&hook->pumps); link != NULL;
         link = list_next(&hook->pumps, link)) {
        struct pump *pump = container_of(link, struct pump, in_hook);
        if (!pump->ended)
            pump_step(pump);
    }
}

/* ---- the end: what is under way is ended, others are told, links are closed ---- */

static bool moving(const struct hooks *hooks)
{
    for (struct list_link *l = list_first(&hooks->hooks); l != NULL;
         l = list_next(&hooks->hooks, l)) {
        const struct hook *hook = container_of(l, struct hook, in_hooks);
        for (struct list_link *link = list_first(&hook->pumps); link != NULL;
             link = list_next(&hook->pumps, link))
            if (container_of(link, struct pump, in_hook)->state == PUMP_MOVES)
                return true;
    }
    return hooks->posts > 0;
}

static void on_left(void *owner, const Loquat__Reply *reply)
{
    (void)reply;
    struct hook *hook = owner;
    hook->hooks->leaving--;
}

static void leave(struct hooks *hooks)
{
    for (struct list_link *link = list_first(&hooks->hooks); link != NULL;
         link = list_next(&hooks->hooks, link)) {
        struct hook *hook = container_of(link, struct hook, in_hooks);
        Loquat__Command command = worker_command(hook, 0);
        hook->ending = true; /* stays for the answer */
        if (cluster_ready(&hooks->cluster) &&
            cluster_write(&hooks->cluster, 0, &command, on_left, hook) == 0)
            hooks->leaving++;
    }
}

static void stop_step(struct hooks *hooks)
{
    bool late = hooks_now(hooks) >= hooks->stop_ms;
    switch (hooks->stop) {
    case HOOKS_ENDING:
        if (moving(hooks) && !late)
            return;
        for (struct list_link *l = list_first(&hooks->hooks); l != NULL;
             l = list_next(&hooks->hooks, l))
            pumps_stop(container_of(l, struct hook, in_hooks));
        hooks->stop = HOOKS_LEAVING;
        leave(hooks);
        return;
    case HOOKS_LEAVING:
        if (hooks->leaving > 0 && !late)
            return;
        hooks->stop = HOOKS_CLOSING;
        cluster_close(&hooks->cluster);
        return;
    case HOOKS_CLOSING:
        if (!cluster_closed(&hooks->cluster))
            return;
        hooks->stop = HOOKS_ENDED;
        hook_curl_close(&hooks->curl);
        uv_close((uv_handle_t *)&hooks->timer, NULL);
        uv_close((uv_handle_t *)&hooks->async, NULL);
        return;
    default:
        return;
    }
}

static void on_timer(uv_timer_t *timer);

static void begin_stop(struct hooks *hooks)
{
    if (hooks_stopping(hooks))
        return;
    hooks->stop = HOOKS_ENDING;
    hooks->stop_ms = hooks_now(hooks) + HOOKS_STOP_MS;
    uv_timer_start(&hooks->timer, on_timer, 0, HOOKS_STOP_TICK_MS);
    for (struct list_link *link = list_first(&hooks->hooks); link != NULL;
         link = list_next(&hooks->hooks, link))
        end_pumps(container_of(link, struct hook, in_hooks));
}

/* ---- the loop ---- */

static void on_timer(uv_timer_t *timer)
{
    struct hooks *hooks = timer->data;
    cluster_tick(&hooks->cluster);
    if (hooks_stopping(hooks)) {
        stop_step(hooks);
        return;
    }
    if (!cluster_ready(&hooks->cluster))
        return;
    if (!hooks->looking && hooks_now(hooks) >= hooks->look_ms)
        begin_look(hooks);
    for (struct list_link *link = list_first(&hooks->hooks); link != NULL;
         link = list_next(&hooks->hooks, link)) {
        struct hook *hook = container_of(link, struct hook, in_hooks);
        if (!hook->gone)
            step_hook(hook);
    }
}

static void on_async(uv_async_t *async)
{
    begin_stop(async->data);
}

static void *run(void *arg)
{
    struct hooks *hooks = arg;
    uv_run(&hooks->loop, UV_RUN_DEFAULT);
    return NULL;
}

struct hooks *hooks_start(const struct settings *settings)
{
    struct hooks *hooks = xcalloc(1, sizeof *hooks);
    unsigned char bytes[8];
    random_bytes(bytes, sizeof bytes);
    memcpy(hooks->worker, "gateway-", 8);
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(hooks->worker + 8 + 2 * i, 3, "%02x", bytes[i]);
    list_init(&hooks->hooks);
    list_init(&hooks->waiting);
    int rv = uv_loop_init(&hooks->loop);
    if (rv != 0)
        log_fatal("no event loop could be made", uv_strerror(rv));
    uv_timer_init(&hooks->loop, &hooks->timer);
    uv_async_init(&hooks->loop, &hooks->async, on_async);
    hooks->timer.data = hooks->async.data = hooks;
    uv_timer_start(&hooks->timer, on_timer, HOOKS_TICK_MS, HOOKS_TICK_MS);
    hook_curl_open(&hooks->curl, &hooks->loop, &settings->hook_rules, settings->hook_ca);
    cluster_init(&hooks->cluster, &hooks->loop, settings->nodes, settings->node_count,
                 &CLUSTER_FOLLOWS_NOTHING, hooks);
    if (settings->node_count == 0) {
        int fd = settings->connect(settings->connect_arg);
        if (fd < 0 || cluster_open(&hooks->cluster, fd) != 0)
            log_fatal("no link to the store could be opened", "");
    }
    thread_start(&hooks->thread, "webhooks", run, hooks);
    return hooks;
}

void hooks_stop(struct hooks *hooks)
{
    uv_async_send(&hooks->async);
    pthread_join(hooks->thread, NULL);
    ASSERT(hooks->posts == 0 && hook_curl_closed(&hooks->curl));
    for (struct list_link *link = list_first(&hooks->hooks), *next; link != NULL; link = next) {
        struct hook *hook = container_of(link, struct hook, in_hooks);
        next = list_next(&hooks->hooks, link);
        ASSERT(list_empty(&hook->pumps)); /* all was answered when the links were closed */
        hook_free(hook);
    }
    int rv = uv_loop_close(&hooks->loop);
    ASSERT(rv == 0);
    cluster_free(&hooks->cluster);
    free(hooks);
}
