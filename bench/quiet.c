/* bench/quiet.c: three nodes with 256 partitions in which nothing happens: the share of one core
 * that all three use, percent. */
#include <stdio.h>
#include <time.h>

#include "bench/lib/server.h"

enum { NODES = 3, MAY_BE = 5 };

int main(int argc, char **argv)
{
    struct bench_options options = bench_options(argc, argv, 20);
    struct node_server nodes[NODES] = {0};
    double cpu = 0;
    nodes_begin(nodes, NODES, "256");
    for (size_t i = 0; i < NODES; i++) /* partitions are dealt out, one a second and node */
        if (!proc_rest(nodes[i].pid))
            bench_say("quiet: node %zu does not come to rest", i + 1);
    for (size_t i = 0; i < NODES; i++)
        cpu -= cpu_of_s(nodes[i].pid);
    double begin = now_s();
    nanosleep(&(struct timespec){.tv_sec = (time_t)options.secs}, NULL);
    for (size_t i = 0; i < NODES; i++)
        cpu += cpu_of_s(nodes[i].pid);
    struct result result = {.bench = "quiet",
                            .unit = "% of a core",
                            .lower = true,
                            .value = cpu / (now_s() - begin) * 100,
                            .ref = MAY_BE,
                            .ref_name = "what it may be",
                            .must = 1};
    result_print(&result);
    nodes_drop(nodes, NODES);
    return 0;
}
