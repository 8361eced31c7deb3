/* bench/import.c: `loquat-log import` of a chat archive into a fresh server, lines a second, beside
 * one thread that writes the same lines into RocksDB in synced batches. */
#include <errno.h>
#include <stdio.h>

#include "bench/lib/archive.h"
#include "bench/lib/bare.h"
#include "store/key.h"

enum { ROUNDS_MAX = 9 };

static uint64_t reference(const char *path, double *seconds)
{
    struct bare bare;
    bare_open(&bare);
    struct source *source = source_open(path);
    if (source == NULL)
        bench_fail("%s: %s", path, strerror(errno));
    double begin = now_s();
    struct span line;
    uint64_t seq = 0;
    while (source_line(source, &line) == 1) {
        const char *end = memchr(line.p, ',', line.n);
        size_t n = end != NULL ? (size_t)(end - line.p) : line.n;
        struct conv_id id = conv_id_of(span_of(line.p, n));
        struct key key = key_seq(partition_of(id, 16), id, ++seq);
        bare_put(&bare, key_span(&key), line);
    }
    bare_flush(&bare);
    *seconds = now_s() - begin;
    source_close(source);
    bare_close(&bare);
    return seq;
}

/* Seconds; the shares of a core that client and server took. */
static double import(const char *path, double *client, double *server)
{
    struct gateway gateway;
    gateway_prepare(&gateway);
    gateway_start(&gateway, NULL);
    double cpu = cpu_of_s(gateway.pid), begin = now_s();
    double used = archive_import(&gateway, "importer", path);
    double s = now_s() - begin;
    *client = used / s;
    *server = (cpu_of_s(gateway.pid) - cpu) / s;
    gateway_drop(&gateway);
    return s;
}

int main(int argc, char **argv)
{
    struct bench_options options = bench_options(argc, argv, 60);
    char root[SCRATCH_MAX], path[SCRATCH_MAX + 64];
    bench_dir(root);
    archive_find(root, path, sizeof path);
    struct rounds rounds = {0};
    struct series client = {0}, server = {0};
    double until = now_s() + options.secs, ref_s, client_share, server_share;
    uint64_t lines = 0;
    for (int i = 0; i < ROUNDS_MAX && (i == 0 || now_s() < until); i++) {
        lines = reference(path, &ref_s);
        double s = import(path, &client_share, &server_share);
        rounds_add(&rounds, (double)lines / s, (double)lines / ref_s);
        series_add(&client, client_share);
        series_add(&server, server_share);
        bench_say("import: %.0f lines/s; reference %.0f", (double)lines / s, (double)lines / ref_s);
    }
    struct result result = {.bench = "import",
                            .unit = "lines/s",
                            .ref_name = "synced RocksDB batches of 100 of the same lines"};
    rounds_end(&rounds, &result);
    result_add(&result, "lines", (double)lines);
    result_add(&result, "client_cpu", series_median(&client));
    result_add(&result, "server_cpu", series_median(&server));
    result_print(&result);
    series_close(&client);
    series_close(&server);
    return 0;
}
