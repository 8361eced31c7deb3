/* bench/growth.c: does it slow down as it fills? What `append` and `send` reach where --messages N
 * (10,000,000) messages are stored, beside the same where SMALL are, in turn: each round of the
 * latter has a directory of its own. Both at rest before they are measured. */
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "bench/lib/load.h"
#include "bench/lib/sender.h"

enum { MESSAGES = 10000000, SMALL = 100000, CONVS = 5000, ROUNDS = 5 };
enum { CONNS = 50, PIPELINE = 16, RESTS_MAX = 20 };
#define MUST 0.8 /* of the rate at SMALL */

static void rest(pid_t pid, const char *of)
{
    int turns = 0;
    while (!proc_rest(pid))
        if (++turns == RESTS_MAX)
            bench_fail("growth: %s does not come to rest", of);
}

/* Opens `dir`, which is new, with so many messages in it. */
static void fill(struct load *load, const char *dir, uint64_t messages)
{
    load_open(load, dir, CONVS);
    for (uint64_t done = 0, first = load->answered; done < messages;
         done = load->answered - first) {
        load_run(load, 1, messages - done);
        if (messages > SMALL)
            bench_progress("growth: filling",
                           fmin(1, (double)(load->answered - first) / (double)messages));
    }
    rest(getpid(), "a store that was filled");
}

static struct result append_rounds(struct load *large, double round_s)
{
    struct rounds rounds = {0};
    struct result result = {.bench = "growth-append",
                            .unit = "msg/s",
                            .ref_name = "append where 100,000 are stored",
                            .must = MUST};
    double before = (double)large->answered;
    for (int i = 0; i < ROUNDS; i++) {
        char root[SCRATCH_MAX], dir[SCRATCH_MAX + 16];
        struct load small;
        bench_dir(root);
        snprintf(dir, sizeof dir, "%s/data", root);
        fill(&small, dir, SMALL);
        double theirs = load_run(&small, round_s, 0);
        load_close(&small);
        bench_dir_drop(root);
        rest(getpid(), "the large store");
        double ours = load_run(large, round_s, 0);
        rounds_add(&rounds, ours, theirs);
        bench_say("growth-append: %.0f msg/s; where %d are stored %.0f", ours, SMALL, theirs);
    }
    rounds_end(&rounds, &result);
    result_add(&result, "stored", before - CONVS);
    result_add(&result, "stored_at_the_end", (double)large->answered - CONVS);
    return result;
}

struct side {
    struct gateway gateway;
    struct senders senders;
};

/* A gateway on gateway.dir, in which messages are. */
static void side_open(struct side *side, uv_loop_t *loop)
{
    gateway_start(&side->gateway, NULL);
    senders_open(&side->senders, &side->gateway, loop, CONNS, PIPELINE);
    rest(side->gateway.pid, "a server that was started");
}

static void side_close(struct side *side, uv_loop_t *loop)
{
    senders_close(&side->senders, loop);
    gateway_drop(&side->gateway);
}

static struct result send_rounds(struct side *large, double round_s)
{
    uv_loop_t *loop = uv_default_loop();
    struct rounds rounds = {0};
    struct result result = {.bench = "growth-send",
                            .unit = "msg/s",
                            .ref_name = "send where 100,000 are stored",
                            .must = MUST};
    side_open(large, loop);
    for (int i = 0; i < ROUNDS; i++) {
        struct side small;
        struct load load;
        gateway_prepare(&small.gateway);
        fill(&load, small.gateway.dir, SMALL);
        load_close(&load);
        side_open(&small, loop);
        double theirs = senders_run(&small.senders, round_s);
        side_close(&small, loop);
        rest(large->gateway.pid, "the large server");
        double ours = senders_run(&large->senders, round_s);
        rounds_add(&rounds, ours, theirs);
        bench_say("growth-send: %.0f msg/s; where %d are stored %.0f", ours, SMALL, theirs);
    }
    rounds_end(&rounds, &result);
    result_add(&result, "sent_more", (double)large->senders.answered);
    return result;
}

int main(int argc, char **argv)
{
    struct bench_options options = bench_options(argc, argv, 60);
    uint64_t messages = options.messages != 0 ? options.messages : MESSAGES;
    double round_s = options.secs / (4 * ROUNDS);
    struct side large;
    struct load load;
    gateway_prepare(&large.gateway);
    double begin = now_s();
    fill(&load, large.gateway.dir, messages);
    double fill_s = now_s() - begin;
    struct result append = append_rounds(&load, round_s);
    result_add(&append, "fill_s", fill_s);
    double stored = (double)load.answered - CONVS;
    load_close(&load);
    struct result send = send_rounds(&large, round_s);
    result_add(&send, "stored", stored);
    results_print_worst("growth", &append, &send);
    side_close(&large, uv_default_loop());
    return 0;
}
