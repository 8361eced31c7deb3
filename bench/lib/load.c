#include "bench/lib/load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/base/log.h"

enum { SYNC_BLOCK = 26000, SYNCS = 200, OPENS_AT_ONCE = 100 };

/* Takes answers until `until` have come. */
static void take(struct load *load, uint64_t until)
{
    while (load->answered < until) {
        int type = 0;
        struct span body;
        if (!nodelink_next(&load->link, &type, &body))
            bench_fail("the node closed the link");
        if (type != LINK_REPLY)
            continue;
        Loquat__Reply *reply =
            loquat__reply__unpack(&load->link.arena.allocator, body.n, (const uint8_t *)body.p);
        if (reply == NULL || reply->err != 0)
            bench_fail("refused: %d %s", reply != NULL ? reply->err : 0,
                       reply != NULL ? reply->msg : "");
        load->answered++;
        arena_reset(&load->link.arena);
    }
}

void load_open(struct load *load, const char *dir, size_t count)
{
    char why[512];
    log_setup("bench", LOG_WARN, LOG_AUTO);
    *load = (struct load){.count = count, .convs = xcalloc(count, sizeof *load->convs)};
    struct node_config config = {.dir = dir};
    if (node_start(&config, &load->node, why, sizeof why) != 0)
        bench_fail("%s", why);
    nodelink_open(&load->link, node_connect(load->node));
    for (size_t i = 0; i < count; i++) {
        char with[32];
        snprintf(with, sizeof with, "peer%zu", i);
        Loquat__Command command = command_open_direct(LOAD_USER, with, load->convs[i]);
        nodelink_write(&load->link, &command);
        load->sent++;
        if (i % OPENS_AT_ONCE == OPENS_AT_ONCE - 1 || i == count - 1) {
            nodelink_flush(&load->link);
            take(load, load->sent);
        }
    }
}

void load_close(struct load *load)
{
    nodelink_close(&load->link);
    node_stop(load->node);
    free(load->convs);
}

static void send_batch(struct load *load)
{
    for (size_t i = 0; i < BARE_BATCH; i++) {
        char body[BARE_TEXT + 16] = "{\"text\":\"", cid[24];
        size_t head = strlen(body);
        bench_text(load->sent, body + head);
        memcpy(body + head + BARE_TEXT, "\"}", 3);
        snprintf(cid, sizeof cid, "%016llx", (unsigned long long)load->sent);
        Loquat__Command command =
            command_send(LOAD_USER, load->convs[load->sent % load->count], cid, body);
        nodelink_write(&load->link, &command);
        load->sent++;
    }
    nodelink_flush(&load->link);
}

double load_run(struct load *load, double secs, uint64_t max)
{
    double begin = now_s();
    uint64_t first = load->answered, flight = (uint64_t)LOAD_FLIGHT_MAX * BARE_BATCH;
    while (now_s() - begin < secs && (max == 0 || load->sent - first < max)) {
        if (load->sent - load->answered >= flight)
            take(load, load->sent - flight + BARE_BATCH);
        send_batch(load);
    }
    take(load, load->sent);
    return (double)(load->answered - first) / (now_s() - begin);
}

void syncs_ms(const char *dir, struct series *times)
{
    static const char block[SYNC_BLOCK];
    char path[SCRATCH_MAX + 16];
    snprintf(path, sizeof path, "%s/sync", dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    for (int i = 0; i < SYNCS; i++) {
        double begin = now_s();
        if (write(fd, block, sizeof block) != sizeof block || fdatasync(fd) != 0)
            bench_fail("%s: %s", path, strerror(errno));
        series_add(times, (now_s() - begin) * 1e3);
    }
    close(fd);
    unlink(path);
}

double fdatasync_us(const char *dir)
{
    struct series times = {0};
    syncs_ms(dir, &times);
    double median = series_median(&times) * 1e3;
    series_close(&times);
    return median;
}
