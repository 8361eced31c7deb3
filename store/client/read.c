/* store/client/read.c: reading by HTTP: a text, lines, the records of a range, a tail. */
#include <stdio.h>
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/client/answer.h"
#include "store/client/ask.h"

enum {
    LINE_MAX_SIZE = 4 << 20,
    TARGET_SIZE = 512,
    TAIL_WAIT_MIN_MS = 500,
    TAIL_WAIT_MAX_MS = 15000,
};

struct lines { /* pieces put together */
    struct buf held;
    bool whole; /* all of it is one */
    loquat_line_fn fn;
    void *arg;
};

static bool lines_on_piece(struct ask *ask, struct span piece)
{
    struct lines *lines = ask->data;
    while (piece.n > 0) {
        const char *end = lines->whole ? NULL : memchr(piece.p, '\n', piece.n);
        size_t n = end != NULL ? (size_t)(end - piece.p) : piece.n;
        if (lines->held.n + n > LINE_MAX_SIZE)
            return false;
        struct span line = span_of(piece.p, n);
        if (end == NULL || lines->held.n > 0) {
            buf_add(&lines->held, piece.p, n);
            line = buf_span(&lines->held);
        }
        if (end == NULL)
            return true;
        lines->held.n = 0;
        if (!lines->fn((struct loquat_text){line.p, line.n}, lines->arg))
            return false;
        piece = span_of(end + 1, piece.n - n - 1);
    }
    return true;
}

/* What `begun` asks, its answer as lines. */
static int ask_lines(const struct loquat_options *options, const struct ask *begun,
                     struct lines *lines, char *why, size_t why_size)
{
    struct ask_place place;
    int err = ask_place_open(&place, options, why, why_size);
    if (err != 0)
        return err;
    struct ask *ask = xcalloc(1, sizeof *ask);
    *ask = *begun;
    ask->place = &place;
    ask->on_piece = lines_on_piece;
    ask->data = lines;
    err = ask_run(ask, why, why_size);
    if (err == 0 && !ask->stopped && lines->held.n > 0)
        lines->fn((struct loquat_text){lines->held.p, lines->held.n}, lines->arg);
    if (err == 0 && ask->stopped && lines->held.n > 0) {
        snprintf(why, why_size, "the server sent a line of more than %d bytes", LINE_MAX_SIZE);
        err = LOQUAT_TOO_LARGE;
    }
    buf_close(&lines->held);
    free(ask);
    ask_place_close(&place);
    return err;
}

int loquat_ask(const struct loquat_options *options, const char *method, const char *target,
               const char *body, const char *accept, loquat_line_fn fn, void *arg, char *why,
               size_t why_size)
{
    struct lines lines = {.whole = accept == NULL, .fn = fn, .arg = arg};
    const struct ask ask = {.method = method, .target = target, .accept = accept, .body = body};
    return ask_lines(options, &ask, &lines, why, why_size);
}

int loquat_get(const struct loquat_options *options, const char *target, const char *accept,
               loquat_line_fn fn, void *arg, char *why, size_t why_size)
{
    return loquat_ask(options, "GET", target, NULL, accept, fn, arg, why, why_size);
}

size_t loquat_path_escape(const char *text, char *out, size_t size)
{
    static const char DIGITS[] = "0123456789ABCDEF";
    static const char PLAIN[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    size_t n = 0;
    for (; *text != 0; text++) {
        bool plain = strchr(PLAIN, *text) != NULL;
        if (n + (plain ? 1 : 3) < size) {
            unsigned char c = (unsigned char)*text;
            out[n] = (char)(plain ? *text : '%');
            if (!plain) {
                out[n + 1] = DIGITS[c >> 4];
                out[n + 2] = DIGITS[c & 15];
            }
        }
        n += plain ? 1 : 3;
    }
    if (size > 0)
        out[n < size ? n : size - 1] = 0;
    return n;
}

/* ---- records ---- */

struct records {
    struct json *json;
    struct loquat_text c;
    loquat_record_fn fn;
    void *arg;
    uint64_t next; /* sequences below were given out */
    bool rising;   /* what was given out already is let go */
    bool stopped, broken;
};

static bool records_give(struct records *records, struct span line)
{
    struct json_obj obj;
    struct loquat_record record;
    if (json_parse(records->json, line.p, line.n, &obj) != 0 ||
        !record_parse(records->json, &obj, line, records->c, &record)) {
        records->broken = true;
        return false;
    }
    if (records->rising && record.last < records->next)
        return true;
    if (record.last + 1 > records->next)
        records->next = record.last + 1;
    records->stopped = !records->fn(&record, records->arg);
    return !records->stopped;
}

static bool records_on_line(struct loquat_text line, void *arg)
{
    return line.n == 0 || records_give(arg, span_of(line.p, line.n));
}

static int records_end(struct records *records, int err, char *why, size_t why_size)
{
    json_free(records->json);
    if (err != 0 || !records->broken)
        return err;
    snprintf(why, why_size, "the server sent what is no record");
    return LOQUAT_INTERNAL;
}

static void range_target(const struct loquat_range *range, char *out, size_t size)
{
    char c[256];
    loquat_path_escape(range->c, c, sizeof c);
    int n = snprintf(out, size, "/v1/conversations/%s/records?view=%s&order=%s", c,
                     range->folded ? "folded" : "log", range->desc ? "desc" : "asc");
    if (range->from > 0)
        n += snprintf(out + n, size - (size_t)n, "&from=%llu", (unsigned long long)range->from);
    if (range->to > 0)
        n += snprintf(out + n, size - (size_t)n, "&to=%llu", (unsigned long long)range->to);
    if (range->max > 0)
        snprintf(out + n, size - (size_t)n, "&max=%u", range->max);
}

int loquat_read(const struct loquat_options *options, const struct loquat_range *range,
                loquat_record_fn fn, void *arg, char *why, size_t why_size)
{
    char target[TARGET_SIZE];
    struct records records = {
        .json = json_new(LINE_MAX_SIZE), .c = {range->c, strlen(range->c)}, .fn = fn, .arg = arg};
    range_target(range, target, sizeof target);
    int err = loquat_get(options, target, "application/x-ndjson", records_on_line, &records, why,
                         why_size);
    return records_end(&records, err, why, why_size);
}

/* ---- tail ---- */

struct tail {
    struct records records;
    struct buf data; /* of the event that is coming in */
    bool heard;      /* this connection gave something */
};

/* Server-Sent Events: `data:` lines make up an event, an empty line ends it. */
static bool tail_on_line(struct loquat_text line, void *arg)
{
    struct tail *tail = arg;
    if (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    if (line.n >= 5 && memcmp(line.p, "data:", 5) == 0) {
        size_t skip = line.n > 5 && line.p[5] == ' ' ? 6 : 5;
        buf_add(&tail->data, line.p + skip, line.n - skip);
        return true;
    }
    if (line.n > 0 || tail->data.n == 0)
        return true;
    tail->heard = true;
    bool go_on = records_give(&tail->records, buf_span(&tail->data));
    tail->data.n = 0;
    return go_on;
}

static bool worth_another(int err)
{
    return err == LOQUAT_UNAVAILABLE || err == LOQUAT_RATE_LIMITED || err == 0;
}

int loquat_tail(const struct loquat_options *options, const char *c, uint64_t from,
                loquat_record_fn fn, void *arg, char *why, size_t why_size)
{
    char target[TARGET_SIZE], escaped[256], header[64];
    uint32_t bound = TAIL_WAIT_MIN_MS;
    struct tail tail = {.records = {.json = json_new(LINE_MAX_SIZE),
                                    .c = {c, strlen(c)},
                                    .fn = fn,
                                    .arg = arg,
                                    .next = from,
                                    .rising = true}};
    loquat_path_escape(c, escaped, sizeof escaped);
    int err;
    for (;;) {
        uint64_t next = tail.records.next;
        int n = snprintf(target, sizeof target, "/v1/conversations/%s/tail", escaped);
        if (next > 0)
            snprintf(target + n, sizeof target - (size_t)n, "?from=%llu", (unsigned long long)next);
        snprintf(header, sizeof header, "Last-Event-ID: %llu\r\n",
                 (unsigned long long)(next > 0 ? next - 1 : 0));
        struct lines lines = {.fn = tail_on_line, .arg = &tail};
        tail.heard = false;
        tail.data.n = 0;
        const struct ask ask = {.method = "GET",
                                .target = target,
                                .accept = "text/event-stream",
                                .header = next > 1 ? header : NULL};
        err = ask_lines(options, &ask, &lines, why, why_size);
        if (tail.records.stopped || tail.records.broken || options->no_retry || !worth_another(err))
            break;
        bound = tail.heard ? TAIL_WAIT_MIN_MS : bound * 2;
        if (bound > TAIL_WAIT_MAX_MS)
            bound = TAIL_WAIT_MAX_MS;
        uv_sleep((unsigned)(random_u64() % bound));
    }
    buf_close(&tail.data);
    return records_end(&tail.records, err, why, why_size);
}
