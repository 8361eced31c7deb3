/* JSON from anyone: what is taken is JSON (jansson agrees), its slices are the values that they
 * say, and its strings survive being written and read again. */
#include <math.h>
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/json.h"
#include "tests/lib/json_peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BYTES_MAX = 4096, VALS_MAX = 16, OPENED_MAX = 64 };

static struct json *json, *other;

/* Written and read again it is the same. */
static void check_string(struct span str)
{
    struct json_obj obj;
    struct buf text = {0};
    ASSERT(utf8_valid(str));
    buf_add_str(&text, "{\"s\":");
    json_put_string(&text, str);
    buf_add_byte(&text, '}');
    if (text.n <= BYTES_MAX) {
        ASSERT(json_parse(other, text.p, text.n, &obj) == 0);
        ASSERT(span_eq(json_get(&obj, "s")->str, str));
    }
    buf_close(&text);
}

/* The slice alone is the same value. */
static void check_slice(const struct json_val *val)
{
    struct json_obj obj;
    struct buf text = {0};
    buf_addf(&text, "{\"v\":%.*s}", (int)val->raw.n, val->raw.p);
    if (memchr(val->raw.p, 0, val->raw.n) == NULL && text.n <= BYTES_MAX) {
        ASSERT(json_parse(other, text.p, text.n, &obj) == 0);
        const struct json_val *again = json_get(&obj, "v");
        ASSERT(again->type == val->type && span_eq(again->raw, val->raw));
        ASSERT(span_eq(again->str, val->str) && again->truth == val->truth);
        ASSERT(again->is_whole == val->is_whole && again->whole == val->whole);
        ASSERT(isfinite(val->num));
    }
    buf_close(&text);
}

static bool open_member(void *arg, const struct json_field *field)
{
    struct json_val vals[VALS_MAX];
    ASSERT(utf8_valid(field->name));
    if (field->val.type == JSON_ARRAY)
        json_items(json, &field->val, vals, VALS_MAX);
    ++*(size_t *)arg;
    return true;
}

static void check_value(const struct json_val *val, int depth, int *opened)
{
    ASSERT(val->raw.n > 0 && depth <= JSON_DEPTH_MAX);
    if (++*opened > OPENED_MAX)
        return;
    check_slice(val);
    if (val->type == JSON_STRING)
        check_string(val->str);
    if (val->type == JSON_ARRAY) {
        struct json_val vals[VALS_MAX];
        int count = json_items(json, val, vals, VALS_MAX);
        ASSERT(count >= 0 || count == ERR_BAD_REQUEST);
        for (int i = 0; i < count && i < VALS_MAX; i++)
            check_value(&vals[i], depth + 1, opened);
    }
    if (val->type == JSON_OBJECT) {
        struct json_obj *obj = xmalloc(sizeof *obj);
        int err = json_open(json, val, obj);
        ASSERT(err == 0 || err == ERR_BAD_REQUEST);
        size_t count = 0;
        int each = json_each(json, val, open_member, &count);
        ASSERT(each == ERR_BAD_REQUEST || (each == 0 && count >= obj->count));
        for (size_t i = 0; i < obj->count; i++)
            check_value(&obj->fields[i].val, depth + 1, opened);
        free(obj);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json_obj obj;
    int opened = 0;
    if (json == NULL) {
        json = json_new(BYTES_MAX);
        other = json_new(BYTES_MAX);
    }
    char *text = xmalloc(size);
    if (size > 0)
        memcpy(text, data, size);
    int err = json_parse(json, text, size, &obj);
    ASSERT(err == 0 || obj.count == 0);
    ASSERT(err == 0 || err == (size > BYTES_MAX ? ERR_TOO_LARGE : ERR_BAD_REQUEST));
    if (err == 0 && memmem(text, size, "\\u0000", 6) == NULL) /* jansson takes none in names */
        ASSERT(json_peer_object(span_of(text, size), obj.count));
    free(text); /* nothing handed out points into it */
    for (size_t i = 0; err == 0 && i < obj.count; i++)
        check_value(&obj.fields[i].val, 2, &opened);
    return 0;
}
