/* bench/rejoin.c: three nodes that hold a million messages; one is killed and its disk is lost;
 * under load another one comes in its place: the time from its start until it has all of them and
 * votes, seconds. Nobody's request may fail, from beginning to end. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "bench/lib/sender.h"

enum {
    CONNS = 50,
    PIPELINE = 16,
    NODES = 3,
    LOST = 2,
    MESSAGES = 1000000,
    RATE = 10000,
    MAY_TAKE_S = 60
};
#define PARTITIONS "16"

/* While the load goes on. */
static void until_ended(struct senders *senders, pid_t pid)
{
    int status = 0;
    pid_t ended;
    while ((ended = waitpid(pid, &status, WNOHANG)) == 0)
        senders_run_at(senders, RATE, 0.5);
    if (ended != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        bench_fail("`loquat-node cluster` came to nothing: see above");
}

int main(int argc, char **argv)
{
    static struct node_server nodes[NODES + 1];
    struct bench_options options = bench_options(argc, argv, 0);
    uint64_t messages = options.messages > 0 ? options.messages : MESSAGES;
    struct gateway gateway;
    struct senders senders;
    uv_loop_t *loop = uv_default_loop();
    char name[64];
    nodes_begin(nodes, NODES, PARTITIONS);
    gateway_prepare(&gateway);
    gateway.node = nodes;
    gateway_start(&gateway, NULL);
    senders_open(&senders, &gateway, loop, CONNS, PIPELINE);
    double begin = now_s();
    while (senders.answered < messages)
        senders_run(&senders, 1);
    bench_say("rejoin: %llu messages in %.0f s", (unsigned long long)senders.answered,
              now_s() - begin);
    nodes_kill(nodes, LOST);
    nodes_wipe(nodes, LOST);
    senders_run_at(&senders, RATE, 1);
    until_ended(&senders, nodes_tell(nodes, "remove", "3"));
    begin = now_s();
    uint64_t before = senders.answered;
    nodes_join(nodes, NODES, PARTITIONS, name, sizeof name);
    until_ended(&senders, nodes_tell(nodes, "add", name));
    double took = now_s() - begin;
    struct result result = {.bench = "rejoin",
                            .unit = "s",
                            .lower = true,
                            .value = took,
                            .ref = MAY_TAKE_S,
                            .ref_name = "what it may take",
                            .must = 1};
    result_add(&result, "messages", (double)before);
    result_add(&result, "load_msg_s", (double)(senders.answered - before) / took);
    result_print(&result);
    senders_close(&senders, loop);
    gateway_drop(&gateway);
    nodes[LOST] = nodes[NODES];
    nodes_drop(nodes, NODES);
    return 0;
}
