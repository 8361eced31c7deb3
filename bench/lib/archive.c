#include "bench/lib/archive.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SAMPLE_COPIES = 20 };

/* The sample, again and again, each time in conversations of other names. */
static void repeat_sample(const char *to)
{
    static const char BEGIN[] = "{\"conv\":\"";
    FILE *out = fopen(to, "we");
    if (out == NULL)
        bench_fail("%s: %s", to, strerror(errno));
    for (int copy = 0; copy < SAMPLE_COPIES; copy++) {
        struct source *source = source_open(ARCHIVE_SAMPLE);
        struct span line;
        if (source == NULL)
            bench_fail("%s: %s", ARCHIVE_SAMPLE, strerror(errno));
        while (source_line(source, &line) == 1) {
            if (line.n < sizeof BEGIN || memcmp(line.p, BEGIN, sizeof BEGIN - 1) != 0)
                bench_fail("%s: a line without a conversation first", ARCHIVE_SAMPLE);
            fprintf(out, "%s%d/%.*s\n", BEGIN, copy, (int)(line.n - (sizeof BEGIN - 1)),
                    line.p + sizeof BEGIN - 1);
        }
        source_close(source);
    }
    if (fclose(out) != 0)
        bench_fail("%s: %s", to, strerror(errno));
}

bool archive_named(const char *name, char *path, size_t size)
{
    const char *data = getenv("LOQUAT_DATASET");
    snprintf(path, size, "%s/%s.jsonl.zst", data != NULL ? data : "../shared/data", name);
    return access(path, R_OK) == 0;
}

void archive_find(const char *root, char *path, size_t size)
{
    if (archive_named("chat-en", path, size))
        return;
    snprintf(path, size, "%s/sample.jsonl", root);
    repeat_sample(path);
}

void archive_each(const char *path, void (*fn)(void *arg, const struct json_t *line), void *arg)
{
    struct source *source = source_open(path);
    struct span line;
    if (source == NULL)
        bench_fail("%s: %s", path, strerror(errno));
    while (source_line(source, &line) == 1) {
        json_t *object = json_loadb(line.p, line.n, 0, NULL);
        if (object == NULL)
            bench_fail("%s: not JSON: %.*s", path, (int)line.n, line.p);
        fn(arg, object);
        json_decref(object);
    }
    source_close(source);
}

double archive_import(const struct gateway *gateway, const char *user, const char *path)
{
    struct buf token = {0};
    char program[SCRATCH_MAX], file[SCRATCH_MAX + 16], log[SCRATCH_MAX + 16];
    gateway_token(gateway, user, "admin", &token);
    scratch_write(gateway->root, "token", token.p);
    snprintf(file, sizeof file, "%s/token", gateway->root);
    chmod(file, 0600);
    const char *argv[] = {bench_program("loquat-log", program, sizeof program),
                          "import",
                          "--url",
                          gateway->url,
                          "--token-file",
                          file,
                          path,
                          NULL};
    snprintf(log, sizeof log, "%s/import.log", gateway->root);
    buf_close(&token);
    return proc_wait(proc_start((char *const *)(uintptr_t)argv, log));
}
