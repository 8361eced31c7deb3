#include "bench/search/ours.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/lib/archive.h"

enum { LIST_PAGE = 200 };

const char ours_reader[] = "reader";
static const char IMPORTER[] = "importer";

/* ---- the archive ---- */

/* Lines of `path` as those of the copy: of the reader's rooms, or of the others. *room: the number
 * of the last one before. */
static void copy_lines(FILE *out, const struct texts *texts, const char *path, size_t copy,
                       bool mine, size_t *room)
{
    static const char BEGIN[] = "{\"conv\":\"";
    enum { HEAD = sizeof BEGIN - 1 };
    struct source *source = source_open(path);
    struct buf last = {0};
    struct span line;
    if (source == NULL)
        bench_fail("%s: %s", path, strerror(errno));
    while (source_line(source, &line) == 1) {
        const char *end = line.n > HEAD ? memchr(line.p + HEAD, ',', line.n - HEAD) : NULL;
        if (end == NULL || memcmp(line.p, BEGIN, HEAD) != 0)
            bench_fail("%s: a line without a conversation first", path);
        struct span name = span_of(line.p, (size_t)(end - line.p));
        if (!span_eq(name, buf_span(&last))) {
            last.n = 0;
            buf_add_span(&last, name);
            ++*room;
        }
        if ((copy == 0 && texts->rooms[*room].mine) == mine)
            fprintf(out, "%s%zu/%.*s\n", BEGIN, copy, (int)(line.n - HEAD), line.p + HEAD);
    }
    source_close(source);
    buf_close(&last);
}

static void import(struct ours *ours, const struct texts *texts, const struct archives *archives,
                   size_t copy, bool mine)
{
    char path[SCRATCH_MAX + 32];
    snprintf(path, sizeof path, "%s/lines.jsonl", ours->gateway.root);
    FILE *out = fopen(path, "we");
    if (out == NULL)
        bench_fail("%s: %s", path, strerror(errno));
    size_t room = SIZE_MAX;
    for (size_t i = 0; i < archives->count; i++)
        copy_lines(out, texts, archives->paths[i], copy, mine, &room);
    if (fclose(out) != 0 || room + 1 != texts->room_count)
        bench_fail("%s: %zu conversations instead of %zu", path, room + 1, texts->room_count);
    archive_import(&ours->gateway, mine ? ours_reader : IMPORTER, path);
    unlink(path);
}

/* ---- the client ---- */

static void on_line(struct sock *sock, struct span line)
{
    struct ours *ours = sock->data;
    if (LINE_BEGINS(line, "{\"ev\":"))
        return;
    ours->answered_s = now_s();
    ours->answer.n = 0;
    buf_add_span(&ours->answer, line);
    ours->answers++;
}

static double ask(struct ours *ours, struct span text)
{
    uint64_t before = ours->answers;
    sock_send(&ours->sock, text);
    double begin = now_s();
    net_flush(&ours->sock.net);
    while (ours->answers == before)
        uv_run(ours->sock.net.loop, UV_RUN_ONCE);
    return ours->answered_s - begin;
}

static json_t *answer_of(const struct ours *ours)
{
    json_t *line = json_loadb(ours->answer.p, ours->answer.n, 0, NULL);
    json_t *ok = json_object_get(line, "ok");
    if (ok == NULL)
        bench_fail("refused: %.*s", (int)ours->answer.n, ours->answer.p);
    json_incref(ok);
    json_decref(line);
    return ok;
}

static void name_reader(size_t number, char *name, size_t size)
{
    (void)number;
    snprintf(name, size, "%s", ours_reader);
}

static void take_ids(struct ours *ours, const struct map *by_name)
{
    struct buf text = {0}, page = {0};
    do {
        text.n = 0;
        buf_addf(&text, "{\"id\":2,\"op\":\"list\",\"limit\":%d%.*s}", LIST_PAGE, (int)page.n,
                 page.p);
        ask(ours, buf_span(&text));
        json_t *ok = answer_of(ours), *conv, *next = json_object_get(ok, "next");
        size_t i;
        json_array_foreach(json_object_get(ok, "convs"), i, conv)
        {
            const char *name = json_string_value(json_object_get(conv, "name"));
            struct conv_id id = conv_id_of(span_str(name));
            union map_val *room = map_get(by_name, (struct map_key){id.hi, id.lo});
            if (room == NULL)
                bench_fail("search: %s is not the reader's", name);
            snprintf(ours->convs[room->u], sizeof ours->convs[0], "%s",
                     json_string_value(json_object_get(conv, "c")));
        }
        page.n = 0;
        if (json_is_string(next))
            buf_addf(&page, ",\"page\":\"%s\"", json_string_value(next));
        json_decref(ok);
    } while (page.n > 0);
    buf_close(&text);
    buf_close(&page);
}

static void find_ids(struct ours *ours, const struct texts *texts)
{
    struct map by_name;
    struct buf name = {0};
    map_init(&by_name);
    ours->convs = xcalloc(texts->room_count, sizeof *ours->convs);
    for (size_t i = 0; i < texts->room_count; i++) {
        bool fresh;
        name.n = 0;
        buf_add_str(&name, "0/");
        buf_add_span(&name, texts->rooms[i].name);
        struct conv_id id = conv_id_of(buf_span(&name));
        if (texts->rooms[i].mine)
            map_put(&by_name, (struct map_key){id.hi, id.lo}, &fresh)->u = i;
    }
    take_ids(ours, &by_name);
    for (size_t i = 0; i < texts->room_count; i++)
        if (texts->rooms[i].mine && ours->convs[i][0] == '\0')
            bench_fail("search: %.*s is not in the list", (int)texts->rooms[i].name.n,
                       texts->rooms[i].name.p);
    map_close(&by_name);
    buf_close(&name);
}

static void wait_for_index(struct ours *ours)
{
    static const char ASK[] = "{\"id\":2,\"op\":\"search\",\"q\":\"loquat\",\"limit\":1}";
    do {
        net_run(ours->sock.net.loop, 0.1);
        ask(ours, span_of(ASK, sizeof ASK - 1));
    } while (memmem(ours->answer.p, ours->answer.n, "\"behind\":0,", 11) == NULL);
    gateway_rest(&ours->gateway);
}

void ours_open(struct ours *ours, const struct texts *texts, const struct archives *archives,
               size_t copies)
{
    *ours = (struct ours){.messages = copies * texts->count};
    gateway_prepare(&ours->gateway);
    gateway_start(&ours->gateway, NULL);
    import(ours, texts, archives, 0, true);
    for (size_t copy = 0; copy < copies; copy++) {
        import(ours, texts, archives, copy, false);
        bench_progress("search: importing", (double)(copy + 1) / (double)copies);
    }
    struct sock_plan plan = {.gateway = &ours->gateway,
                             .loop = uv_default_loop(),
                             .user = name_reader,
                             .on_line = on_line};
    sock_open(&ours->sock, 0, 1, &plan);
    ours->sock.data = ours;
    find_ids(ours, texts);
    wait_for_index(ours);
}

void ours_stop(struct ours *ours)
{
    net_close(&ours->sock.net);
    net_settle(uv_default_loop());
    gateway_stop(&ours->gateway);
}

void ours_close(struct ours *ours)
{
    gateway_drop(&ours->gateway);
    buf_close(&ours->answer);
    free(ours->convs);
}

void ours_ask(const struct query_drawn *query, const char *quote, struct buf *text)
{
    if (query->from[0] != '\0')
        buf_addf(text, "from:%s ", query->from);
    quote = query->kind == ASKED_PHRASE ? quote : "";
    buf_add_str(text, quote);
    for (size_t i = 0; i < query->count; i++)
        buf_addf(text, "%s%s", i > 0 ? " " : "", query->words[i]);
    buf_addf(text, "%s%s", quote, query->kind == ASKED_PREFIX ? "*" : "");
}

/* No word of these has anything in it that JSON escapes. */
static void say(struct ours *ours, const struct query_drawn *query, bool mine, struct buf *text)
{
    buf_add_str(text, "{\"id\":3,\"op\":\"search\",\"q\":\"");
    ours_ask(query, "\\\"", text);
    buf_addf(text, "\",\"limit\":%d", HITS);
    if (!mine)
        buf_addf(text, ",\"c\":\"%s\"", ours->convs[query->conv]);
    buf_add_byte(text, '}');
}

double ours_find(struct ours *ours, const struct query_drawn *query, bool mine, size_t *hits)
{
    struct buf text = {0};
    say(ours, query, mine, &text);
    double s = ask(ours, buf_span(&text));
    json_t *ok = answer_of(ours);
    *hits = json_array_size(json_object_get(ok, "hits"));
    json_decref(ok);
    buf_close(&text);
    return s;
}
