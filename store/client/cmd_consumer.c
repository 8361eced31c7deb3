#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/ids.h"
#include "store/client/answer.h"
#include "store/client/cmd.h"
#include "store/client/print.h"

enum { ANSWER_MAX = 8 << 20, TARGET_MAX = 448, WORKERS_SHOWN = 64 };

struct consumer {
    struct cmd cmd;
    struct loquat_options server;
    const char *name;
    char *from, *partition, *offset, *at; /* as given */
    bool start, now;
    uint64_t to_p, to_offset, to_ms; /* of seek */
    struct json *json;
    struct buf text, out; /* the last answer; what is printed */
    char why[CMD_WHY_SIZE];
};

static bool keep_text(struct loquat_text text, void *arg)
{
    buf_add(arg, text.p, text.n);
    return true;
}

static bool failed(struct consumer *c)
{
    cmd_fail(&c->cmd, c->name != NULL ? c->name : c->why, c->name != NULL ? c->why : NULL);
    return false;
}

/* The answer is in `text`. False after saying why there is none. */
static bool ask(struct consumer *c, const char *method, const char *target, const char *body)
{
    c->text.n = 0;
    int err = loquat_ask(&c->server, method, target, body, NULL, keep_text, &c->text, c->why,
                         sizeof c->why);
    if (err == 0)
        return true;
    return failed(c);
}

static bool broken(struct consumer *c)
{
    cmd_fail(&c->cmd, "the server sent what is not understood", NULL);
    return false;
}

static void target_of(char target[TARGET_MAX], const char *name)
{
    char escaped[3 * USER_MAX + 1];
    loquat_path_escape(name, escaped, sizeof escaped);
    snprintf(target, TARGET_MAX, "/v1/consumers/%s", escaped);
}

/* The answer, opened, and the objects of a list in it; NULL after saying that there is none. Freed
 * by the caller. */
static struct json_val *items(struct consumer *c, struct json_obj *obj, const char *name,
                              size_t *count)
{
    const struct json_val *list = NULL;
    if (json_parse(c->json, c->text.p, c->text.n, obj) == 0)
        list = json_get(obj, name);
    int n = list != NULL ? json_items(c->json, list, NULL, 0) : -1;
    if (n < 0) {
        broken(c);
        return NULL;
    }
    struct json_val *vals = xcalloc((size_t)n + 1, sizeof *vals);
    *count = (size_t)json_items(c->json, list, vals, (size_t)n);
    return vals;
}

static bool take_whole(const struct json_obj *obj, const char *name, uint64_t *out)
{
    const struct json_val *val = json_get(obj, name);
    bool fine = val != NULL && val->is_whole && val->whole >= 0;
    *out = fine ? (uint64_t)val->whole : 0;
    return fine;
}

/* ---- list ---- */

struct names {
    char (*all)[USER_MAX + 1];
    size_t count;
};

/* `more`: there is a next page. */
static bool add_names(struct consumer *c, struct names *names, bool *more)
{
    struct json_obj page;
    size_t n = 0;
    struct json_val *vals = items(c, &page, "consumers", &n);
    bool fine = vals != NULL;
    if (fine)
        names->all = xrealloc(names->all, (names->count + n + 1) * sizeof *names->all);
    for (size_t i = 0; fine && i < n; i++) {
        struct json_obj obj;
        struct span name = {0};
        if (json_open(c->json, &vals[i], &obj) == 0)
            name = answer_string(&obj, "name");
        fine = (name.n > 0 && name.n <= USER_MAX) || broken(c);
        if (!fine)
            break;
        memcpy(names->all[names->count], name.p, name.n);
        names->all[names->count++][name.n] = 0;
    }
    *more = fine && n > 0 && answer_string(&page, "next").n > 0;
    free(vals);
    return fine;
}

/* Page by page. */
static bool ask_names(struct consumer *c, struct names *names)
{
    char target[TARGET_MAX] = "/v1/consumers", escaped[3 * USER_MAX + 1];
    for (;;) {
        bool more = false;
        if (!ask(c, "GET", target, NULL) || !add_names(c, names, &more))
            return false;
        if (!more)
            return true;
        loquat_path_escape(names->all[names->count - 1], escaped, sizeof escaped);
        snprintf(target, sizeof target, "/v1/consumers?page=%s", escaped);
    }
}

/* ---- what is said of one ---- */

static void add_duration(struct buf *out, uint64_t ms)
{
    uint64_t s = ms / 1000;
    if (ms == 0)
        buf_add_str(out, "-");
    else if (s < 60)
        buf_addf(out, "%llu.%llus", (unsigned long long)s, (unsigned long long)(ms % 1000 / 100));
    else if (s < 3600)
        buf_addf(out, "%llum%02llus", (unsigned long long)(s / 60), (unsigned long long)(s % 60));
    else if (s < 86400)
        buf_addf(out, "%lluh%02llum", (unsigned long long)(s / 3600),
                 (unsigned long long)(s / 60 % 60));
    else
        buf_addf(out, "%llud%02lluh", (unsigned long long)(s / 86400),
                 (unsigned long long)(s / 3600 % 24));
}

/* A column of `width`, to the right. */
static void add_right(struct buf *out, int width, struct buf *cell)
{
    buf_addf(out, "%*.*s", width, (int)cell->n, cell->n > 0 ? cell->p : "");
    cell->n = 0;
}

static void add_count(struct buf *out, int width, uint64_t number)
{
    struct buf cell = {0};
    print_count(&cell, number);
    add_right(out, width, &cell);
    buf_close(&cell);
}

static void add_lag(struct buf *out, uint64_t lag, uint64_t lag_ms)
{
    struct buf cell = {0};
    add_count(out, 10, lag);
    add_duration(&cell, lag_ms);
    add_right(out, 10, &cell);
    buf_close(&cell);
}

static size_t worker_count(struct consumer *c, const struct json_obj *obj)
{
    const struct json_val *list = json_get(obj, "workers");
    int n = list != NULL ? json_items(c->json, list, NULL, 0) : 0;
    return n > 0 ? (size_t)n : 0;
}

static struct span webhook_of(struct consumer *c, const struct json_obj *obj)
{
    struct json_obj hook;
    const struct json_val *val = json_get(obj, "webhook");
    if (val == NULL || val->type != JSON_OBJECT || json_open(c->json, val, &hook) != 0)
        return (struct span){0};
    return answer_string(&hook, "url");
}

static bool add_line(struct consumer *c)
{
    struct json_obj obj;
    uint64_t lag, lag_ms;
    if (c->cmd.json) {
        buf_add_span(&c->out, buf_span(&c->text));
        buf_add_byte(&c->out, '\n');
        return true;
    }
    if (json_parse(c->json, c->text.p, c->text.n, &obj) != 0 || !take_whole(&obj, "lag", &lag) ||
        !take_whole(&obj, "lag_ms", &lag_ms))
        return broken(c);
    struct span name = answer_string(&obj, "name");
    buf_addf(&c->out, "%-24.*s", (int)name.n, name.p);
    add_lag(&c->out, lag, lag_ms);
    buf_addf(&c->out, "%9zu  ", worker_count(c, &obj));
    print_safe(&c->out, webhook_of(c, &obj), "");
    buf_add_byte(&c->out, '\n');
    return true;
}

static bool add_list(struct consumer *c, const struct names *names)
{
    char target[TARGET_MAX];
    bool fine = true;
    if (!c->cmd.json)
        buf_addf(&c->out, "%-24s%10s%10s%9s  %s\n", "consumer", "lag", "behind", "workers",
                 "webhook");
    for (size_t i = 0; fine && i < names->count; i++) {
        target_of(target, names->all[i]);
        fine = ask(c, "GET", target, NULL) && add_line(c);
    }
    return fine;
}

static bool do_list(struct consumer *c)
{
    struct names names = {0};
    bool fine = ask_names(c, &names) && add_list(c, &names);
    free(names.all);
    return fine;
}

/* ---- show ---- */

static void add_head(struct consumer *c, const struct json_obj *obj)
{
    struct json_val *workers = xcalloc(WORKERS_SHOWN, sizeof *workers);
    struct buf *out = &c->out;
    struct span name = answer_string(obj, "name"), hook = webhook_of(c, obj);
    const struct json_val *list = json_get(obj, "workers");
    buf_addf(out, "consumer  %.*s\ncreated   ", (int)name.n, name.p);
    print_time(out, answer_number(obj, "created"));
    buf_add_str(out, " by ");
    print_safe(out, answer_string(obj, "by"), "");
    if (hook.n > 0) {
        buf_add_str(out, "\nwebhook   ");
        print_safe(out, hook, "");
    }
    buf_add_str(out, "\nworkers   ");
    int n = list != NULL ? json_items(c->json, list, workers, WORKERS_SHOWN) : 0;
    for (int i = 0; i < n && i < WORKERS_SHOWN; i++) {
        struct json_obj worker;
        if (json_open(c->json, &workers[i], &worker) != 0)
            continue;
        buf_add_str(out, i > 0 ? ", " : "");
        print_safe(out, answer_string(&worker, "name"), "");
    }
    buf_add_str(out, n > 0 ? "\n\n" : "none\n\n");
    free(workers);
}

static bool add_place(struct consumer *c, const struct json_val *val)
{
    struct json_obj obj;
    uint64_t p, offset, head, lag, lag_ms;
    if (val->type != JSON_OBJECT || json_open(c->json, val, &obj) != 0 ||
        !take_whole(&obj, "p", &p) || !take_whole(&obj, "offset", &offset) ||
        !take_whole(&obj, "head", &head) || !take_whole(&obj, "lag", &lag) ||
        !take_whole(&obj, "lag_ms", &lag_ms))
        return broken(c);
    buf_addf(&c->out, "%9llu  %15llu  %15llu", (unsigned long long)p, (unsigned long long)offset,
             (unsigned long long)head);
    add_lag(&c->out, lag, lag_ms);
    buf_add_byte(&c->out, '\n');
    return true;
}

/* What is in `text`. */
static bool show(struct consumer *c)
{
    struct json_obj obj;
    size_t n = 0;
    if (c->cmd.json)
        return add_line(c);
    struct json_val *vals = items(c, &obj, "partitions", &n);
    bool fine = vals != NULL;
    if (fine) {
        add_head(c, &obj);
        buf_addf(&c->out, "%9s  %15s  %15s%10s%10s\n", "partition", "offset", "head", "lag",
                 "behind");
    }
    for (size_t i = 0; fine && i < n; i++)
        fine = add_place(c, &vals[i]);
    free(vals);
    return fine;
}

static bool do_show(struct consumer *c)
{
    char target[TARGET_MAX];
    target_of(target, c->name);
    return ask(c, "GET", target, NULL) && show(c);
}

/* ---- add, remove ---- */

/* One that is there is not touched: to be made again would take its webhook away. */
static bool do_add(struct consumer *c)
{
    char target[TARGET_MAX], body[64] = "{}";
    target_of(target, c->name);
    int err = loquat_get(&c->server, target, NULL, keep_text, &c->text, c->why, sizeof c->why);
    if (err == 0)
        snprintf(c->why, sizeof c->why, "is there already (`loquat-log consumer seek' moves it)");
    if (err != LOQUAT_NOT_FOUND)
        return failed(c);
    if (c->from != NULL)
        snprintf(body, sizeof body, "{\"from\":\"%s\"}", c->from);
    return ask(c, "PUT", target, body) && show(c);
}

static bool do_remove(struct consumer *c)
{
    char target[TARGET_MAX];
    target_of(target, c->name);
    return ask(c, "DELETE", target, NULL);
}

/* ---- seek ---- */

static bool seek_to(struct consumer *c, uint64_t p, uint64_t head)
{
    char target[TARGET_MAX], body[64];
    struct json_obj obj;
    uint64_t offset = c->now ? head : c->to_offset;
    target_of(target, c->name);
    size_t n = strlen(target);
    snprintf(target + n, sizeof target - n, "/%llu", (unsigned long long)p);
    if (c->to_ms != 0)
        snprintf(body, sizeof body, "{\"at\":%llu}", (unsigned long long)c->to_ms);
    else
        snprintf(body, sizeof body, "{\"offset\":%llu}", (unsigned long long)offset);
    if (!ask(c, "PUT", target, body))
        return false;
    if (json_parse(c->json, c->text.p, c->text.n, &obj) != 0 ||
        !take_whole(&obj, "offset", &offset))
        return broken(c);
    if (c->out.n == 0 && !c->cmd.json)
        buf_addf(&c->out, "%9s  %15s\n", "partition", "offset");
    buf_addf(&c->out, c->cmd.json ? "{\"p\":%llu,\"offset\":%llu}\n" : "%9llu  %15llu\n",
             (unsigned long long)p, (unsigned long long)offset);
    return true;
}

static bool do_seek(struct consumer *c)
{
    struct json_obj obj;
    size_t n = 0;
    if (!ask(c, "GET", "/v1/partitions", NULL))
        return false;
    struct json_val *vals = items(c, &obj, "partitions", &n);
    uint64_t *heads = xcalloc(n + 1, sizeof *heads);
    bool fine = vals != NULL;
    for (size_t i = 0; fine && i < n; i++) {
        struct json_obj part;
        if (json_open(c->json, &vals[i], &part) == 0)
            heads[i] = answer_number(&part, "head");
    }
    if (c->partition != NULL) /* the server says so when there is no such one */
        fine = fine && seek_to(c, c->to_p, c->to_p < n ? heads[c->to_p] : 0);
    for (size_t p = 0; c->partition == NULL && fine && p < n; p++)
        fine = seek_to(c, p, heads[p]);
    free(vals);
    free(heads);
    return fine;
}

/* ---- */

static const struct action {
    const char *name;
    bool (*run)(struct consumer *c);
    bool named;
} ACTIONS[] = {
    {"list", do_list, false}, {"show", do_show, true},     {"add", do_add, true},
    {"seek", do_seek, true},  {"remove", do_remove, true},
};

static const struct action *action_of(const char *name)
{
    for (size_t i = 0; i < sizeof ACTIONS / sizeof *ACTIONS; i++)
        if (strcmp(ACTIONS[i].name, name) == 0)
            return &ACTIONS[i];
    return NULL;
}

/* NULL: nothing is wrong. */
static const char *misuse(const struct consumer *c, const struct action *action)
{
    bool seeks = action->run == do_seek;
    int places = (c->offset != NULL) + (c->at != NULL) + c->start + c->now;
    if (c->name != NULL && !user_valid(span_str(c->name)))
        return "a consumer's name has 1 to 64 of A-Z a-z 0-9 . _ @ -";
    if (action->run != do_add && c->from != NULL)
        return "--from is for `add'";
    if (c->from != NULL && strcmp(c->from, "start") != 0 && strcmp(c->from, "now") != 0)
        return "--from is start or now";
    if (!seeks && (places > 0 || c->partition != NULL))
        return "--partition, --offset, --at, --start and --now are for `seek'";
    if (seeks && places != 1)
        return "seek takes one of --offset, --at, --start and --now";
    if (c->offset != NULL && c->partition == NULL)
        return "--offset is one of a partition: give --partition, too";
    return NULL;
}

static const char *take_place(struct consumer *c)
{
    if (c->partition != NULL && !cmd_whole(c->partition, &c->to_p))
        return "--partition is a number";
    if (c->offset != NULL && !cmd_whole(c->offset, &c->to_offset))
        return "--offset is a number";
    if (c->at != NULL && !cmd_time(c->at, clock_wall_ms(), &c->to_ms))
        return CMD_TIME_IS;
    return NULL;
}

static int run(struct consumer *c, const struct action *action)
{
    if (!cmd_connect(&c->cmd, &c->server))
        return CMD_FAILED;
    c->json = json_new(ANSWER_MAX);
    bool fine = action->run(c);
    if (c->out.n > 0)
        fwrite(c->out.p, 1, c->out.n, stdout);
    json_free(c->json);
    buf_close(&c->text);
    buf_close(&c->out);
    int status = cmd_finish(&c->cmd);
    return fine ? status : CMD_FAILED;
}

bool cmd_list_consumers(const struct cmd *cmd, const struct loquat_options *server, struct buf *out)
{
    struct consumer c = {.cmd = *cmd, .server = *server};
    struct names names = {0};
    int err = loquat_get(server, "/v1/consumers", NULL, keep_text, &c.text, c.why, sizeof c.why);
    c.json = json_new(ANSWER_MAX);
    bool fine = err == LOQUAT_FORBIDDEN || ask_names(&c, &names);
    if (fine && names.count > 0)
        fine = add_list(&c, &names);
    buf_add_span(out, buf_span(&c.out));
    free(names.all);
    json_free(c.json);
    buf_close(&c.text);
    buf_close(&c.out);
    return fine;
}

int cmd_consumer(int argc, char **argv)
{
    struct consumer c = {.cmd = {.name = "loquat-log consumer"}};
    const struct config_option options[] = {
        {.name = "from",
         .type = CONFIG_STRING,
         .arg = "start|now",
         .help = "add: where it begins; default: start",
         .value = &c.from},
        {.name = "partition",
         .key = 'p',
         .type = CONFIG_STRING,
         .arg = "P",
         .help = "seek: in this partition; default: in all",
         .value = &c.partition},
        {.name = "offset",
         .type = CONFIG_STRING,
         .arg = "OFFSET",
         .help = "seek: behind this offset of the partition",
         .value = &c.offset},
        {.name = "at",
         .type = CONFIG_STRING,
         .arg = "TIME",
         .help = "seek: to this time: 2026-01-31T12:00:00Z, 2026-01-31, \"90m ago\"",
         .value = &c.at},
        {.name = "start",
         .type = CONFIG_FLAG,
         .help = "seek: before everything",
         .value = &c.start},
        {.name = "now", .type = CONFIG_FLAG, .help = "seek: behind everything", .value = &c.now},
        {0},
    };
    int first =
        cmd_load(&c.cmd, argc, argv, "list | show NAME | add NAME | seek NAME | remove NAME",
                 "Named readers of the feed (`loquat-log feed --consumer NAME'): how far "
                 "each has come, in records and in time. The token must have the scope "
                 "jobs or admin.",
                 true, options);
    const struct action *action = first < argc ? action_of(argv[first]) : NULL;
    if (action == NULL)
        return cmd_usage(&c.cmd, "takes list, show, add, seek or remove");
    if (first + 1 + action->named != argc)
        return cmd_usage(&c.cmd, action->named ? "takes one name" : "list takes no name");
    c.name = action->named ? argv[first + 1] : NULL;
    const char *wrong = misuse(&c, action);
    if (wrong == NULL)
        wrong = take_place(&c);
    return wrong != NULL ? cmd_usage(&c.cmd, wrong) : run(&c, action);
}
