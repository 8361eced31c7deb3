/* store/client/read.c: reading a conversation by HTTP: the records of a range, a tail. */
#include <stdio.h>
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/client/answer.h"
#include "store/client/lines.h"
#include "store/client/reader.h"

enum {
    TARGET_SIZE = 512,
    HEADER_SIZE = 64,
    CONV_SIZE = 256, /* percent-encoded */
    TAIL_WAIT_MIN_MS = 500,
    TAIL_WAIT_MAX_MS = 15000,
};

/* ---- records ---- */

struct records {
    struct json *json;
    struct loquat_text c;
    loquat_record_fn fn;
    void *arg;
    uint64_t next; /* sequences below were given out */
    bool rising;   /* what was given out already is let go */
    bool broken;
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
    return records->fn(&record, records->arg);
}

/* ---- a reader of one conversation ---- */

struct conv_reader {
    struct loquat_reader reader; /* first */
    struct ask ask;
    struct lines lines;
    struct records records;
    char target[TARGET_SIZE], header[HEADER_SIZE], conv[CONV_SIZE];
    char *c;
    bool stopped; /* by the caller */
    /* of a tail */
    bool tails, no_retry;
    bool heard;      /* this connection gave something */
    struct buf data; /* of the event that is coming in */
    uint32_t bound;
    uv_timer_t again;
    int err;
    char why[ASK_WHY_SIZE];
};

static struct conv_reader *conv_reader_of(struct loquat_reader *reader)
{
    return (struct conv_reader *)reader;
}

static void conv_reader_over(struct conv_reader *conv)
{
    reader_close(&conv->reader);
    json_free(conv->records.json);
    buf_close(&conv->data);
    conv->reader.on_end(conv->err, conv->why, conv->reader.end_arg);
    free(conv->c);
    free(conv);
}

static void conv_reader_on_closed(uv_handle_t *handle)
{
    conv_reader_over(handle->data);
}

static void conv_reader_end(struct conv_reader *conv)
{
    if (conv->err == 0 && conv->records.broken) {
        snprintf(conv->why, sizeof conv->why, "the server sent what is no record");
        conv->err = LOQUAT_INTERNAL;
    }
    if (conv->stopped)
        conv->err = 0;
    if (conv->err == 0)
        conv->why[0] = 0;
    conv->stopped = true;
    uv_close((uv_handle_t *)&conv->again, conv_reader_on_closed);
}

static bool given(struct conv_reader *conv, struct span line)
{
    bool go_on = records_give(&conv->records, line);
    conv->stopped |= !go_on && !conv->records.broken;
    return go_on && !conv->stopped;
}

static bool range_on_line(struct loquat_text line, void *arg)
{
    return line.n == 0 || given(arg, span_of(line.p, line.n));
}

/* Server-Sent Events: `data:` lines make up an event, an empty line ends it. */
static bool tail_on_line(struct loquat_text line, void *arg)
{
    struct conv_reader *conv = arg;
    if (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    if (line.n >= 5 && memcmp(line.p, "data:", 5) == 0) {
        size_t skip = line.n > 5 && line.p[5] == ' ' ? 6 : 5;
        buf_add(&conv->data, line.p + skip, line.n - skip);
        return true;
    }
    if (line.n > 0 || conv->data.n == 0)
        return true;
    conv->heard = true;
    bool go_on = given(conv, buf_span(&conv->data));
    conv->data.n = 0;
    return go_on;
}

static void tail_begin(struct conv_reader *conv);

static void tail_on_again(uv_timer_t *timer)
{
    tail_begin(timer->data);
}

static bool tail_goes_on(const struct conv_reader *conv)
{
    return conv->tails && !conv->stopped && !conv->records.broken && !conv->no_retry &&
           (conv->err == LOQUAT_UNAVAILABLE || conv->err == LOQUAT_RATE_LIMITED || conv->err == 0);
}

static void conv_reader_on_end(struct ask *ask, int err, const char *why)
{
    struct conv_reader *conv =
        (struct conv_reader *)((char *)ask - offsetof(struct conv_reader, ask));
    snprintf(conv->why, sizeof conv->why, "%s", why);
    conv->err = lines_end(&conv->lines, ask, err, conv->why, sizeof conv->why);
    if (!tail_goes_on(conv)) {
        conv_reader_end(conv);
        return;
    }
    conv->bound = conv->heard ? TAIL_WAIT_MIN_MS : conv->bound * 2;
    if (conv->bound > TAIL_WAIT_MAX_MS)
        conv->bound = TAIL_WAIT_MAX_MS;
    uv_timer_start(&conv->again, tail_on_again, random_u64() % conv->bound, 0);
}

static void conv_reader_stop(struct loquat_reader *reader)
{
    struct conv_reader *conv = conv_reader_of(reader);
    bool before = conv->stopped;
    conv->stopped = true;
    if (conv->ask.busy)
        ask_end(&conv->ask);
    else if (!before) /* it waits for another attempt */
        conv_reader_end(conv);
}

static void conv_reader_ask(struct conv_reader *conv, const char *accept)
{
    conv->ask.place = &conv->reader.place;
    conv->ask.method = "GET";
    conv->ask.target = conv->target;
    conv->ask.accept = accept;
    conv->ask.on_piece = lines_on_piece;
    conv->ask.on_end = conv_reader_on_end;
    conv->ask.data = &conv->lines;
    ask_begin(&conv->ask, conv->reader.loop);
}

static struct conv_reader *conv_reader_new(const struct loquat_options *options, const char *c,
                                           loquat_record_fn fn, loquat_end_fn end, void *arg,
                                           char *why, size_t why_size)
{
    struct conv_reader *conv = xcalloc(1, sizeof *conv);
    if (reader_open(&conv->reader, options, end, arg, why, why_size) != 0) {
        free(conv);
        return NULL;
    }
    conv->reader.stop = conv_reader_stop;
    conv->c = xstrdup(c);
    loquat_path_escape(c, conv->conv, sizeof conv->conv);
    conv->records = (struct records){
        .json = json_new(LINE_MAX_SIZE), .c = {conv->c, strlen(conv->c)}, .fn = fn, .arg = arg};
    conv->lines.arg = conv;
    uv_timer_init(conv->reader.loop, &conv->again);
    conv->again.data = conv;
    return conv;
}

/* ---- a range ---- */

static void range_target(const struct loquat_range *range, const char *c, char *out, size_t size)
{
    int n = snprintf(out, size, "/v1/conversations/%s/records?view=%s&order=%s", c,
                     range->folded ? "folded" : "log", range->desc ? "desc" : "asc");
    if (range->from > 0)
        n += snprintf(out + n, size - (size_t)n, "&from=%llu", (unsigned long long)range->from);
    if (range->to > 0)
        n += snprintf(out + n, size - (size_t)n, "&to=%llu", (unsigned long long)range->to);
    if (range->max > 0)
        snprintf(out + n, size - (size_t)n, "&max=%u", range->max);
}

struct loquat_reader *loquat_start_read(const struct loquat_options *options,
                                        const struct loquat_range *range, loquat_record_fn fn,
                                        loquat_end_fn end, void *arg, char *why, size_t why_size)
{
    struct conv_reader *conv = conv_reader_new(options, range->c, fn, end, arg, why, why_size);
    if (conv == NULL)
        return NULL;
    conv->lines.fn = range_on_line;
    range_target(range, conv->conv, conv->target, sizeof conv->target);
    conv_reader_ask(conv, "application/x-ndjson");
    return &conv->reader;
}

int loquat_read(const struct loquat_options *options, const struct loquat_range *range,
                loquat_record_fn fn, void *arg, char *why, size_t why_size)
{
    struct reader_wait wait;
    int err = reader_wait_open(&wait, options, why, why_size);
    if (err != 0)
        return err;
    return reader_wait_end(&wait,
                           loquat_start_read(&wait.options, range, fn, NULL, arg, why, why_size));
}

/* ---- a tail ---- */

static void tail_begin(struct conv_reader *conv)
{
    uint64_t next = conv->records.next;
    int n = snprintf(conv->target, sizeof conv->target, "/v1/conversations/%s/tail", conv->conv);
    if (next > 0)
        snprintf(conv->target + n, sizeof conv->target - (size_t)n, "?from=%llu",
                 (unsigned long long)next);
    snprintf(conv->header, sizeof conv->header, "Last-Event-ID: %llu\r\n",
             (unsigned long long)(next > 0 ? next - 1 : 0));
    conv->ask.header = next > 1 ? conv->header : NULL;
    conv->heard = false;
    conv->data.n = 0;
    conv_reader_ask(conv, "text/event-stream");
}

struct loquat_reader *loquat_start_tail(const struct loquat_options *options, const char *c,
                                        uint64_t from, loquat_record_fn fn, loquat_end_fn end,
                                        void *arg, char *why, size_t why_size)
{
    struct conv_reader *conv = conv_reader_new(options, c, fn, end, arg, why, why_size);
    if (conv == NULL)
        return NULL;
    conv->lines.fn = tail_on_line;
    conv->records.next = from;
    conv->records.rising = conv->tails = true;
    conv->no_retry = options->no_retry;
    conv->bound = TAIL_WAIT_MIN_MS;
    tail_begin(conv);
    return &conv->reader;
}

int loquat_tail(const struct loquat_options *options, const char *c, uint64_t from,
                loquat_record_fn fn, void *arg, char *why, size_t why_size)
{
    struct reader_wait wait;
    int err = reader_wait_open(&wait, options, why, why_size);
    if (err != 0)
        return err;
    return reader_wait_end(&wait,
                           loquat_start_tail(&wait.options, c, from, fn, NULL, arg, why, why_size));
}
