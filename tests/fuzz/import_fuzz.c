/* Lines of a chat archive from anywhere: whatever is accepted must make a request and, as a record,
 * a line again that means the same. */
#include <stdint.h>
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/jwt.h"
#include "store/client/export_line.h"
#include "store/client/import_line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add_val(struct buf *out, const char *before, const struct json_val *val)
{
    if (val == NULL)
        return;
    buf_add_str(out, before);
    buf_add_span(out, val->raw);
}

/* The request's members as the record that a range would give. */
static void record_of(struct json *json, struct span fields, struct buf *record)
{
    struct json_obj request;
    struct buf text = {0};
    buf_add_byte(&text, '{');
    buf_add_span(&text, fields);
    buf_add_byte(&text, '}');
    ASSERT(json_parse(json, text.p, text.n, &request) == 0);
    buf_add_str(record, "{\"c\":\"g\",\"s\":3,\"n\":1");
    add_val(record, ",\"ts\":", json_get(&request, "ts"));
    add_val(record, ",\"from\":", json_get(&request, "from"));
    add_val(record, ",\"kind\":", json_get(&request, "kind"));
    add_val(record, ",\"body\":", json_get(&request, "body"));
    buf_add_byte(record, '}');
    buf_close(&text);
}

static bool same(struct span a, struct span b)
{
    return (a.p == NULL) == (b.p == NULL) && span_eq(a, b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json *json = json_new(1 << 20), *again = json_new(1 << 20);
    struct import_line line, back;
    struct buf request = {0}, record = {0}, out = {0};
    struct export_conv conv = {0};
    const char *why = NULL;
    int err = import_line_parse(json, span_of(data, size), 100, &line, NULL, &why);
    ASSERT((err == 0) == (why == NULL));
    if (err == 0) {
        ASSERT(user_valid(span_str(line.user)));
        import_line_encode(&line, 100, (struct span){0}, &request);
        record_of(again, buf_span(&request), &record);
        export_conv_begin(&conv, line.conv);
        ASSERT(export_line(&conv, again, buf_span(&record), &out) == 1);
        ASSERT(out.p[out.n - 1] == '\n');
        int err_back = import_line_parse(again, span_of(out.p, out.n - 1), 100, &back, NULL, &why);
        ASSERT(err_back == 0 || out.n > IMPORT_LINE_MAX);
        if (err_back == 0) {
            ASSERT(span_eq(line.conv, back.conv) && same(line.text, back.text));
            ASSERT(same(line.from, back.from) || !line.nick_differs);
            ASSERT(span_eq(line.type_name, back.type_name));
            ASSERT(line.ts == back.ts && strcmp(line.user, back.user) == 0);
        }
    }
    export_conv_close(&conv);
    buf_close(&request);
    buf_close(&record);
    buf_close(&out);
    json_free(json);
    json_free(again);
    return 0;
}
