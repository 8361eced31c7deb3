#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/check.h"
#include "store/client/cmd.h"
#include "store/client/export_line.h"
#include "store/client/print.h"
#include "store/client/progress.h"
#include "store/client/sink.h"

enum { PAGE = 200, LIST_MAX = 16 << 20 };

struct export_target {
    char *c, *name;
};

struct export
{
    struct cmd *cmd;
    struct loquat_options server;
    struct json *json;
    struct sink *sink;
    struct export_target *targets;
    size_t count, cap;
    struct export_conv conv;
    struct buf line;
    struct progress progress;
    uint64_t lines, holes;
    bool broken;
    char why[CMD_WHY_SIZE];
};

/* ---- which conversations ---- */

static char *copy_text(const struct json_val *val)
{
    char *text = xmalloc(val->str.n + 1);
    memcpy(text, val->str.p, val->str.n);
    text[val->str.n] = 0;
    return text;
}

/* A Conv as the server gives it. Conversations without a name have their id as name. */
static bool add_target(struct export *export, const struct json_obj *conv)
{
    const struct json_val *c = json_get(conv, "c"), *name = json_get(conv, "name");
    if (c == NULL || c->type != JSON_STRING)
        return false;
    if (export->count == export->cap) {
        export->cap = export->cap > 0 ? export->cap * 2 : 64;
        export->targets = xrealloc(export->targets, export->cap * sizeof *export->targets);
    }
    bool named = name != NULL && name->type == JSON_STRING && name->str.n > 0;
    export->targets[export->count++] =
        (struct export_target){copy_text(c), copy_text(named ? name : c)};
    return true;
}

static bool export_on_conv(struct loquat_text text, void *arg)
{
    struct export *export = arg;
    struct json_obj conv;
    export->broken =
        json_parse(export->json, text.p, text.n, &conv) != 0 || !add_target(export, &conv);
    return !export->broken;
}

static int find_target(struct export *export, const char *c)
{
    char target[512], escaped[256];
    loquat_path_escape(c, escaped, sizeof escaped);
    snprintf(target, sizeof target, "/v1/conversations/%s", escaped);
    int err = loquat_get(&export->server, target, NULL, export_on_conv, export, export->why,
                         sizeof export->why);
    if (err == 0 && export->broken) {
        snprintf(export->why, sizeof export->why, "the server sent what is no conversation");
        return LOQUAT_INTERNAL;
    }
    return err;
}

/* One page of a list; *page becomes the `next`, empty at the end. */
static int take_page(struct export *export, const struct loquat_answer *answer, struct buf *page)
{
    struct json_obj list, conv;
    page->n = 0;
    if (json_parse(export->json, answer->json.p, answer->json.n, &list) != 0)
        return LOQUAT_INTERNAL;
    const struct json_val *convs = json_get(&list, "convs"), *next = json_get(&list, "next");
    struct json_val *vals = xcalloc(PAGE, sizeof *vals);
    int count = convs != NULL ? json_items(export->json, convs, vals, PAGE) : -1;
    int err = count >= 0 && count <= PAGE ? 0 : LOQUAT_INTERNAL;
    for (int i = 0; i < count && err == 0; i++)
        if (json_open(export->json, &vals[i], &conv) != 0 || !add_target(export, &conv))
            err = LOQUAT_INTERNAL;
    free(vals);
    if (next != NULL && next->type != JSON_NULL)
        buf_add_span(page, next->raw);
    return err;
}

static int target_compare(const void *left, const void *right)
{
    const struct export_target *a = left, *b = right;
    int order = strcmp(a->name, b->name);
    return order != 0 ? order : strcmp(a->c, b->c);
}

/* The list is by newness: a page may repeat what moved up meanwhile. */
static void sort_targets(struct export *export)
{
    size_t kept = 0;
    if (export->count > 0)
        qsort(export->targets, export->count, sizeof *export->targets, target_compare);
    for (size_t i = 0; i < export->count; i++) {
        struct export_target *target = &export->targets[i];
        if (kept > 0 && strcmp(export->targets[kept - 1].c, target->c) == 0) {
            free(target->c);
            free(target->name);
        } else {
            export->targets[kept++] = *target;
        }
    }
    export->count = kept;
}

static int find_all(struct export *export)
{
    struct loquat *chat = loquat_new(&export->server, export->why, sizeof export->why);
    if (chat == NULL)
        return LOQUAT_BAD_REQUEST;
    struct buf page = {0}, request = {0};
    struct loquat_answer answer;
    int err;
    do {
        request.n = 0;
        buf_addf(&request, "\"op\":\"list\",\"limit\":%d", PAGE);
        if (page.n > 0) {
            buf_add_str(&request, ",\"page\":");
            buf_add_span(&request, buf_span(&page));
        }
        err = loquat_wait_request(chat, request.p, request.n, &answer);
        if (err != 0)
            snprintf(export->why, sizeof export->why, "%s: %.200s", answer.code, answer.message);
        else if ((err = take_page(export, &answer, &page)) != 0)
            snprintf(export->why, sizeof export->why, "the server sent what is no list");
    } while (err == 0 && page.n > 0);
    buf_close(&page);
    buf_close(&request);
    loquat_free(chat);
    sort_targets(export);
    return err;
}

/* ---- their lines ---- */

static bool export_on_record(struct loquat_text text, void *arg)
{
    struct export *export = arg;
    if (text.n == 0)
        return true;
    export->line.n = 0;
    int got = export_line(&export->conv, export->json, span_of(text.p, text.n), &export->line);
    if (got < 0) {
        snprintf(export->why, sizeof export->why, "the server sent what is no record");
        export->broken = true;
        return false;
    }
    if (got == 0)
        return true;
    if (!sink_write(export->sink, buf_span(&export->line))) {
        snprintf(export->why, sizeof export->why, "cannot write: %s", strerror(errno));
        export->broken = true;
    }
    export->lines++;
    progress_show(&export->progress, export->lines, "lines", -1);
    return !export->broken;
}

static int export_one(struct export *export, const struct export_target *target)
{
    char path[512], escaped[256];
    loquat_path_escape(target->c, escaped, sizeof escaped);
    snprintf(path, sizeof path, "/v1/conversations/%s/records?from=1&view=log&order=asc", escaped);
    export_conv_begin(&export->conv, span_str(target->name));
    int err = loquat_get(&export->server, path, "application/x-ndjson", export_on_record, export,
                         export->why, sizeof export->why);
    export->holes += export->conv.holes;
    return err == 0 && export->broken ? LOQUAT_INTERNAL : err;
}

static int export_all_targets(struct export *export)
{
    int err = 0;
    progress_begin(&export->progress);
    for (size_t i = 0; i < export->count && err == 0; i++)
        err = export_one(export, &export->targets[i]);
    progress_end(&export->progress);
    return err;
}

static void print_totals(const struct export *export)
{
    struct buf out = {0};
    print_count(&out, export->lines);
    buf_add_str(&out, " lines of ");
    print_count(&out, export->count);
    buf_addf(&out, " conversations, %.1f s", progress_seconds(&export->progress));
    if (export->holes > 0) {
        buf_add_str(&out, "; ");
        print_count(&out, export->holes);
        buf_add_str(&out, " records have no content any more");
    }
    fprintf(stderr, "%.*s\n", (int)out.n, out.p);
    buf_close(&out);
}

static void export_close(struct export *export)
{
    for (size_t i = 0; i < export->count; i++) {
        free(export->targets[i].c);
        free(export->targets[i].name);
    }
    free(export->targets);
    export_conv_close(&export->conv);
    buf_close(&export->line);
    json_free(export->json);
}

static int run(struct export *export, int count, char **names, const char *out)
{
    int err = 0;
    for (int i = 0; i < count && err == 0; i++)
        err = find_target(export, names[i]);
    if (count == 0)
        err = find_all(export);
    if (err != 0)
        return cmd_fail(export->cmd, export->why, NULL);
    export->sink = sink_open(out);
    if (export->sink == NULL)
        return cmd_fail(export->cmd, out, strerror(errno));
    err = export_all_targets(export);
    if (!sink_close(export->sink, err == 0) && err == 0)
        return cmd_fail(export->cmd, "cannot write", strerror(errno));
    if (err != 0)
        return cmd_fail(export->cmd, export->why, NULL);
    print_totals(export);
    return CMD_DONE;
}

int cmd_export(int argc, char **argv)
{
    struct cmd cmd = {.name = "loquat-log export"};
    bool all = false;
    char *out = NULL;
    const struct config_option options[] = {
        {.name = "all",
         .key = 'a',
         .type = CONFIG_FLAG,
         .help = "Every conversation of the token's user, by name",
         .value = &all},
        {.name = "out",
         .key = 'o',
         .type = CONFIG_STRING,
         .arg = "FILE",
         .help = "Write to FILE, compressed when it ends with .zst",
         .value = &out},
        {0},
    };
    int first = cmd_load(&cmd, argc, argv, "CONVERSATION…\n--all",
                         "Write conversations as a chat archive (JSON Lines): what `loquat-log "
                         "import' reads. Messages stand as they were written; edits, deletions "
                         "and changes of members are no lines.",
                         false, options);
    if (all == (first < argc))
        return cmd_usage(&cmd, "takes conversations, or --all");
    struct export export = {.cmd = &cmd};
    if (!cmd_connect(&cmd, &export.server))
        return CMD_FAILED;
    export.json = json_new(LIST_MAX);
    int status = run(&export, argc - first, argv + first, out);
    export_close(&export);
    return status;
}
