#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/buf.h"
#include "store/base/json.h"
#include "store/client/cmd.h"
#include "store/client/print.h"

enum { CONV_MAX = 4 << 20 };

static bool keep_text(struct loquat_text text, void *arg)
{
    buf_add(arg, text.p, text.n);
    return true;
}

static void add_row(struct buf *out, const char *name, const struct json_val *val)
{
    if (val == NULL || val->type == JSON_NULL || val->type == JSON_OBJECT)
        return;
    buf_addf(out, "%-12s ", name);
    if (val->is_whole && val->whole >= 0)
        print_count(out, (uint64_t)val->whole);
    else
        print_safe(out, val->type == JSON_STRING ? val->str : val->raw, "");
    buf_add_byte(out, '\n');
}

static bool add_conv(struct buf *out, struct span text)
{
    static const char *const ROWS[] = {"c",       "kind", "name",      "topic", "with",
                                       "members", "role", "head",      "floor", "n",
                                       "unread",  "read", "delivered", "ttl"};
    struct json *json = json_new(CONV_MAX);
    struct json_obj conv, last;
    bool fine = json_parse(json, text.p, text.n, &conv) == 0;
    for (size_t i = 0; fine && i < sizeof ROWS / sizeof *ROWS; i++)
        add_row(out, ROWS[i], json_get(&conv, ROWS[i]));
    const struct json_val *record = fine ? json_get(&conv, "last") : NULL;
    if (record != NULL && record->type == JSON_OBJECT && json_open(json, record, &last) == 0) {
        const struct json_val *ts = json_get(&last, "ts");
        buf_add_str(out, "last         ");
        print_time(out, ts != NULL && ts->whole > 0 ? (uint64_t)ts->whole : 0);
        buf_add_byte(out, '\n');
    }
    json_free(json);
    return fine;
}

/* A line of Prometheus text is `name{labels} value`. Buckets of histograms are left out. */
static void add_metric(struct buf *out, struct span line, bool as_json, bool *first)
{
    const char *space = memrchr(line.p, ' ', line.n);
    if (line.n == 0 || line.p[0] == '#' || space == NULL ||
        memmem(line.p, line.n, "_bucket{", 8) != NULL)
        return;
    struct span name = span_of(line.p, (size_t)(space - line.p));
    struct span value = span_of(space + 1, line.n - name.n - 1);
    if (!as_json) {
        buf_addf(out, "%-56.*s %.*s\n", (int)name.n, name.p, (int)value.n, value.p);
        return;
    }
    buf_add_str(out, *first ? "{" : ",");
    *first = false;
    json_put_string(out, name);
    buf_add_byte(out, ':');
    if (value.n > 0 && strspn(value.p, "-+.0123456789eE") >= value.n)
        buf_add_span(out, value);
    else
        json_put_string(out, value); /* NaN, +Inf */
}

static void add_metrics(struct buf *out, struct span text, bool as_json)
{
    bool first = true;
    while (text.n > 0) {
        const char *end = memchr(text.p, '\n', text.n);
        size_t n = end != NULL ? (size_t)(end - text.p) : text.n;
        add_metric(out, span_of(text.p, n), as_json, &first);
        n += end != NULL;
        text = span_of(text.p + n, text.n - n);
    }
    if (as_json)
        buf_add_str(out, first ? "{" : "");
}

/* Of --url: an address for operators alone has none. */
static bool add_consumers(struct cmd *cmd, struct buf *out)
{
    struct loquat_options server;
    struct buf lines = {0};
    if (cmd->token == NULL && cmd->token_file == NULL)
        return true;
    bool fine = cmd_connect(cmd, &server) && cmd_list_consumers(cmd, &server, &lines);
    if (lines.n > 0 && !cmd->json) {
        buf_add_byte(out, '\n');
        buf_add_span(out, buf_span(&lines));
    } else if (lines.n > 0) {
        buf_add_str(out, out->n > 1 ? ",\"consumers\":[" : "\"consumers\":[");
        for (size_t i = 0; i + 1 < lines.n; i++) /* an object a line; none within has a newline */
            buf_add_byte(out, lines.p[i] == '\n' ? ',' : lines.p[i]);
        buf_add_byte(out, ']');
    }
    buf_close(&lines);
    return fine;
}

int cmd_stat(int argc, char **argv)
{
    struct cmd cmd = {.name = "loquat-log stat"};
    char *admin_url = NULL;
    const struct config_option options[] = {
        {.name = "admin-url",
         .type = CONFIG_STRING,
         .arg = "URL",
         .help = "Where the server has /metrics, if not at --url",
         .value = &admin_url},
        {0},
    };
    int first =
        cmd_load(&cmd, argc, argv, "[CONVERSATION]",
                 "Numbers of a conversation, or of the whole server: its metrics and, with a "
                 "token that may know of them, its consumers.",
                 true, options);
    struct loquat_options server = {.url = cmd.url, .ca = cmd.ca};
    char target[512] = "/metrics", why[CMD_WHY_SIZE] = "";
    bool conv = first < argc;
    if (first + 1 < argc)
        return cmd_usage(&cmd, "takes one conversation, or none");
    if (conv) {
        char escaped[256];
        if (!cmd_connect(&cmd, &server))
            return CMD_FAILED;
        loquat_path_escape(argv[first], escaped, sizeof escaped);
        snprintf(target, sizeof target, "/v1/conversations/%s", escaped);
    } else if (admin_url != NULL) {
        server.url = admin_url;
    }
    struct buf text = {0}, out = {0};
    int err = loquat_get(&server, target, NULL, keep_text, &text, why, sizeof why);
    bool fine = true;
    if (err == 0 && conv && !cmd.json)
        fine = add_conv(&out, buf_span(&text));
    else if (err == 0 && conv)
        buf_addf(&out, "%.*s\n", (int)text.n, text.p);
    else if (err == 0)
        add_metrics(&out, buf_span(&text), cmd.json);
    bool listed = conv || err != 0 || add_consumers(&cmd, &out);
    if (err == 0 && !conv && cmd.json)
        buf_add_str(&out, "}\n");
    fwrite(out.p, 1, out.n, stdout);
    buf_close(&out);
    buf_close(&text);
    if (err != 0 || !fine)
        return cmd_fail(&cmd, err != 0 ? why : "the server sent what is no conversation", NULL);
    int status = cmd_finish(&cmd);
    return listed ? status : CMD_FAILED;
}
