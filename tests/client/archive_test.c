/* Archives in and out: every line of real conversations must come back byte for byte. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/base/err.h"
#include "store/base/jwt.h"
#include "store/client/export_line.h"
#include "store/client/import_conv.h"
#include "store/client/source.h"

static const char SAMPLE[] = "tests/data/chat-sample.jsonl.zst";

/* A server that keeps nothing: turns a `send` into the record that a range would give. */
struct echo {
    struct json *json;
    uint64_t seq, n;
    struct buf record;
};

static void add_field(struct echo *echo, const struct json_obj *request, const char *name,
                      const char *missing)
{
    const struct json_val *val = json_get(request, name);
    if (val == NULL && missing == NULL)
        return;
    buf_addf(&echo->record, ",\"%s\":", name);
    buf_add_span(&echo->record, val != NULL ? val->raw : span_str(missing));
}

static void echo_send(struct echo *echo, struct span fields)
{
    struct buf text = {0};
    struct json_obj request;
    buf_add_byte(&text, '{');
    buf_add_span(&text, fields);
    buf_add_byte(&text, '}');
    cr_assert_eq(json_parse(echo->json, text.p, text.n, &request), 0, "%s: %.*s",
                 json_error(echo->json), (int)text.n, text.p);
    const struct json_val *from = json_get(&request, "from");
    cr_assert(from != NULL && user_valid(from->str));
    echo->seq += 1 + echo->seq % 3; /* member records lie between */
    echo->record.n = 0;
    buf_addf(&echo->record, "{\"c\":\"g-1\",\"s\":%llu,\"mid\":\"123\"",
             (unsigned long long)echo->seq);
    add_field(echo, &request, "ts", "1700000000000");
    add_field(echo, &request, "from", NULL);
    add_field(echo, &request, "kind", NULL);
    add_field(echo, &request, "body", NULL);
    buf_addf(&echo->record, ",\"n\":%llu", (unsigned long long)++echo->n);
    add_field(echo, &request, "reply", NULL);
    buf_add_byte(&echo->record, '}');
    buf_close(&text);
}

struct trip {
    struct json *json;
    bool keep;
    struct echo echo;
    struct export_conv export;
    struct buf out, want, name;
    size_t lines;
};

/* The line without the fields that an import leaves out. */
static void strip(struct trip *trip, struct span line)
{
    static const char *const KEPT[] = {"conv", "ts", "from", "text", "reply_to", "type"};
    struct json_obj obj;
    trip->want.n = 0;
    if (trip->keep) {
        buf_add_span(&trip->want, line);
        buf_add_byte(&trip->want, '\n');
        return;
    }
    cr_assert_eq(json_parse(trip->json, line.p, line.n, &obj), 0);
    for (size_t i = 0; i < sizeof KEPT / sizeof *KEPT; i++) {
        const struct json_val *val = json_get(&obj, KEPT[i]);
        if (val == NULL)
            continue;
        buf_addf(&trip->want, "%s\"%s\":", i == 0 ? "{" : ",", KEPT[i]);
        buf_add_span(&trip->want, val->raw);
    }
    buf_add_str(&trip->want, "}\n");
}

/* All lines of one conversation through import, echo and export. */
static void conv_there_and_back(struct trip *trip, struct import_conv *conv,
                                const struct buf *lines)
{
    struct buf request = {0};
    struct import_slot *slot;
    import_conv_open(conv, 60000, &request);
    import_conv_opened(conv, span_str("g-1"), conv->writer_count + 1, "importer");
    export_conv_begin(&trip->export, span_of(conv->bytes.p, conv->name.n));
    trip->echo.seq = 7;
    struct span rest = buf_span(lines);
    for (;;) {
        request.n = 0;
        if (import_conv_next(conv, 0, &request, &slot) == 0)
            break;
        import_conv_sent(conv, slot);
        echo_send(&trip->echo, buf_span(&request));
        import_conv_acked(slot, trip->echo.seq);
        trip->out.n = 0;
        cr_assert_eq(
            export_line(&trip->export, trip->json, buf_span(&trip->echo.record), &trip->out), 1);
        const char *end = memchr(rest.p, '\n', rest.n);
        strip(trip, span_of(rest.p, (size_t)(end - rest.p)));
        cr_assert(span_eq(buf_span(&trip->out), buf_span(&trip->want)), "got  %.*swant %.*s",
                  (int)trip->out.n, trip->out.p, (int)trip->want.n, trip->want.p);
        rest = span_of(end + 1, rest.n - (size_t)(end + 1 - rest.p));
        trip->lines++;
    }
    cr_assert(import_conv_complete(conv));
    cr_assert_eq(import_conv_disorder(conv), 0);
    cr_assert_eq(rest.n, 0);
    buf_close(&request);
    import_conv_free(conv);
}

static size_t file_there_and_back(const char *path, bool keep)
{
    struct trip trip = {.json = json_new(1 << 20), .keep = keep};
    trip.echo.json = json_new(1 << 20);
    struct source *source = source_open(path);
    cr_assert(source != NULL, "%s", path);
    struct import_conv *conv = import_conv_new(NULL);
    struct buf lines = {0};
    struct span line;
    const char *why = "";
    int got;
    while ((got = source_line(source, &line)) == 1) {
        int err = import_conv_add(conv, trip.json, line, keep, &why);
        if (err == ERR_CONFLICT) {
            conv_there_and_back(&trip, conv, &lines);
            lines.n = 0;
            conv = import_conv_new(NULL);
            err = import_conv_add(conv, trip.json, line, keep, &why);
        }
        cr_assert_eq(err, 0, "%s: %.*s", why, (int)line.n, line.p);
        buf_add_span(&lines, line);
        buf_add_byte(&lines, '\n');
    }
    cr_assert_eq(got, 0);
    conv_there_and_back(&trip, conv, &lines);
    source_close(source);
    export_conv_close(&trip.export);
    json_free(trip.json);
    json_free(trip.echo.json);
    buf_close(&trip.echo.record);
    buf_close(&trip.out);
    buf_close(&trip.want);
    buf_close(&lines);
    return trip.lines;
}

/* What an import stores gives every line of the sample back. */
Test(archive, sample_comes_back)
{
    cr_assert(eq(sz, file_there_and_back(SAMPLE, false), 5962));
}

/* Keeping all fields, it gives the lines back whole. */
Test(archive, sample_comes_back_whole_when_kept)
{
    cr_assert(eq(sz, file_there_and_back(SAMPLE, true), 5962));
}

/* So it does for the whole collection, where that is at hand. */
Test(archive, everything_comes_back, .timeout = 300)
{
    static const char *const NAMES[] = {"chat-en", "chat-multi"};
    const char *folder = getenv("LOQUAT_DATASET");
    for (int i = 0; i < 2; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s.jsonl.zst", folder != NULL ? folder : "../shared/data",
                 NAMES[i]);
        if (access(path, R_OK) != 0)
            continue;
        cr_assert(lt(sz, 0, file_there_and_back(path, i == 0)));
    }
}

/* ---- single lines ---- */

static struct json *json;
static struct import_line parsed;

static int parse(const char *line, uint64_t position)
{
    const char *why = "";
    json_free(json);
    json = json_new(1 << 20);
    return import_line_parse(json, span_str(line), position, &parsed, NULL, &why);
}

static const char *encoded(const char *line, uint64_t position)
{
    static struct buf out;
    cr_assert_eq(parse(line, position), 0);
    out.n = 0;
    import_line_encode(&parsed, position, (struct span){0}, &out);
    buf_add_byte(&out, 0);
    return out.p;
}

/* A plain message becomes a text; its author's id is the nickname. */
Test(archive, message_is_text)
{
    cr_assert(eq(str,
                 (char *)encoded("{\"conv\":\"a/b\",\"ts\":5,\"from\":\"zed\",\"text\":\"h\\ni\","
                                 "\"reply_to\":3,\"lang\":\"en\"}",
                                 12),
                 "\"cid\":\"12\",\"from\":\"zed\",\"ts\":5,\"kind\":\"text\",\"body\":"
                 "{\"text\":\"h\\ni\"}"));
    cr_assert(eq(i64, parsed.reply_to, 3));
}

/* Events are kept apart from what people wrote; no time and no author are said to be none. */
Test(archive, event_is_x_irc)
{
    cr_assert(eq(str,
                 (char *)encoded("{\"conv\":\"a/b\",\"ts\":null,\"from\":null,\"text\":\"\","
                                 "\"reply_to\":null,\"type\":\"mode\"}",
                                 0),
                 "\"cid\":\"0\",\"from\":\"system.\",\"kind\":\"x-irc\",\"body\":"
                 "{\"type\":\"mode\",\"text\":\"\",\"nick\":null,\"ts\":null}"));
}

Test(archive, action_is_text_with_a_mark)
{
    cr_assert(eq(str,
                 (char *)encoded("{\"conv\":\"a\",\"ts\":1,\"from\":\"a|b\",\"text\":\"waves\","
                                 "\"reply_to\":null,\"type\":\"action\"}",
                                 1),
                 "\"cid\":\"1\",\"from\":\"a.7cb\",\"ts\":1,\"kind\":\"text\",\"body\":"
                 "{\"text\":\"waves\",\"action\":true,\"nick\":\"a|b\"}"));
}

/* A line that can't be stored is refused, and says why. */
Test(archive, bad_lines_are_refused)
{
    static const char *const BAD[] = {
        "",
        "[]",
        "{\"conv\":\"a\",\"text\":\"x\"",
        "{\"conv\":\"\",\"text\":\"x\"}",
        "{\"conv\":1,\"text\":\"x\"}",
        "{\"text\":\"x\"}",
        "{\"conv\":\"a\"}",
        "{\"conv\":\"a\",\"text\":null}",
        "{\"conv\":\"a\",\"text\":\"x\",\"from\":1}",
        "{\"conv\":\"a\",\"text\":\"x\",\"type\":[]}",
        "{\"conv\":\"a\",\"text\":\"x\",\"ts\":-1}",
        "{\"conv\":\"a\",\"text\":\"x\",\"ts\":1.5}",
        "{\"conv\":\"a\",\"text\":\"x\",\"ts\":\"1\"}",
        "{\"conv\":\"a\",\"text\":\"x\",\"reply_to\":4}",
        "{\"conv\":\"a\",\"text\":\"x\",\"reply_to\":-1}",
    };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        cr_assert_eq(parse(BAD[i], 4), ERR_BAD_REQUEST, "%s", BAD[i]);
}

/* ---- order ---- */

static struct import_conv *conv_of(const char *const *lines, size_t count)
{
    struct import_conv *conv = import_conv_new(NULL);
    const char *why = "";
    struct json *reader = json_new(1 << 20);
    for (size_t i = 0; i < count; i++)
        cr_assert_eq(import_conv_add(conv, reader, span_str(lines[i]), false, &why), 0, "%s", why);
    json_free(reader);
    struct buf out = {0};
    import_conv_open(conv, 60000, &out);
    import_conv_opened(conv, span_str("g-1"), 99, "importer");
    buf_close(&out);
    return conv;
}

static struct import_slot *next_of(struct import_conv *conv, uint64_t now_us)
{
    struct import_slot *slot = NULL;
    struct buf out = {0};
    if (import_conv_next(conv, now_us, &out, &slot) == 1)
        import_conv_sent(conv, slot);
    buf_close(&out);
    return slot;
}

#define LINE(reply) "{\"conv\":\"a\",\"text\":\"x\",\"from\":\"u\",\"reply_to\":" reply "}"
static const char *const THREE[] = {LINE("null"), LINE("null"), LINE("0")};

/* A line that answers another one waits until that one has its sequence. */
Test(archive, reply_waits_for_what_it_answers)
{
    struct import_conv *conv = conv_of(THREE, 3);
    struct import_slot *first = next_of(conv, 0), *second = next_of(conv, 0);
    cr_assert(second == first + 1);
    cr_assert(next_of(conv, 0) == NULL);
    import_conv_acked(second, 9);
    cr_assert(next_of(conv, 0) == NULL);
    import_conv_acked(first, 8);
    struct import_slot *slot;
    struct buf out = {0};
    cr_assert_eq(import_conv_next(conv, 0, &out, &slot), 1);
    cr_assert(slot == first + 2);
    cr_assert_eq(memcmp(out.p + out.n - 10, ",\"reply\":8", 10), 0);
    buf_close(&out);
    import_conv_free(conv);
}

/* After "later" nothing overtakes: the line goes again when nothing is in flight, in its time. */
Test(archive, later_keeps_the_order)
{
    struct import_conv *conv = conv_of(THREE, 3);
    struct import_slot *first = next_of(conv, 0), *second = next_of(conv, 0);
    import_conv_later(first, 1000);
    cr_assert(next_of(conv, 2000) == NULL); /* the second is in flight */
    import_conv_later(second, 1000);
    cr_assert(next_of(conv, 500) == NULL);
    cr_assert(next_of(conv, 2000) == first);
    cr_assert(next_of(conv, 2000) == second);
    import_conv_acked(first, 8);
    import_conv_acked(second, 9);
    import_conv_acked(next_of(conv, 2000), 10);
    cr_assert(import_conv_complete(conv));
    import_conv_free(conv);
}

/* Records that are no messages and holes give no line, and positions close up. */
Test(archive, export_counts_lines_only)
{
    struct export_conv conv = {0};
    struct buf out = {0};
    struct json *reader = json_new(1 << 20);
    export_conv_begin(&conv, span_str("a/b"));
    cr_assert_eq(export_line(&conv, reader,
                             span_str("{\"c\":\"g-1\",\"s\":1,\"ts\":1,\"from\":\"o\",\"kind\":"
                                      "\"member\",\"body\":{}}"),
                             &out),
                 0);
    cr_assert_eq(export_line(&conv, reader, span_str("{\"hole\":[2,4],\"why\":\"erased\"}"), &out),
                 0);
    cr_assert_eq(export_line(&conv, reader,
                             span_str("{\"c\":\"g-1\",\"s\":5,\"ts\":1,\"from\":\"u\",\"kind\":"
                                      "\"text\",\"body\":{\"text\":\"a\"}}"),
                             &out),
                 1);
    out.n = 0;
    cr_assert_eq(export_line(&conv, reader,
                             span_str("{\"c\":\"g-1\",\"s\":6,\"ts\":2,\"from\":\"u\",\"kind\":"
                                      "\"text\",\"reply\":5,\"body\":{\"text\":\"b\"}}"),
                             &out),
                 1);
    buf_add_byte(&out, 0);
    cr_assert(eq(str, out.p,
                 "{\"conv\":\"a/b\",\"ts\":2,\"from\":\"u\",\"text\":\"b\",\"reply_to\":0}\n"));
    cr_assert_eq(conv.holes, 3);
    cr_assert_eq(conv.other, 1);
    export_conv_close(&conv);
    json_free(reader);
    buf_close(&out);
}
