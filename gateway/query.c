#include "gateway/query.h"

#include <stdlib.h>

#include "gateway/conn.h"
#include "store/base/check.h"
#include "store/base/http.h"

bool query_whole(struct span text, uint64_t *out)
{
    char digits[17] = "";
    if (text.n == 0 || text.n >= sizeof digits)
        return false;
    memcpy(digits, text.p, text.n);
    if (strspn(digits, "0123456789") != text.n)
        return false;
    *out = strtoull(digits, NULL, 10);
    return true;
}

void query_add(struct json_obj *obj, const char *name, struct json_val val)
{
    for (size_t i = 0; i < obj->count; i++)
        if (span_is(obj->fields[i].name, name)) {
            obj->fields[i].val = val;
            return;
        }
    ASSERT(obj->count < JSON_FIELDS_MAX);
    obj->fields[obj->count++] = (struct json_field){span_str(name), val};
}

void query_fields(struct conn *conn, const struct http_msg *msg, struct json_obj *obj)
{
    static const char *const NUMBERS[] = {"from",  "to",     "max", "limit",
                                          "after", "before", "at",  "wait_ms"};
    static const char *const TEXTS[] = {"view", "order",     "page", "q",
                                        "c",    "from_user", "kind", "has"};
    struct arena *arena = &conn->gate->arena;
    struct buf value = {0};
    obj->count = 0;
    for (size_t i = 0; i < sizeof NUMBERS / sizeof *NUMBERS; i++) {
        if (!http_query_get(msg->query, NUMBERS[i], &value))
            continue;
        uint64_t whole = 0;
        struct json_val val = {.type = JSON_STRING};
        if (query_whole(buf_span(&value), &whole))
            val = (struct json_val){.type = JSON_NUMBER, .is_whole = true, .whole = (int64_t)whole};
        query_add(obj, NUMBERS[i], val);
    }
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
        if (!http_query_get(msg->query, TEXTS[i], &value))
            continue;
        struct json_val val = {.type = JSON_STRING};
        val.str = span_of(arena_copy(arena, value.p, value.n), value.n);
        query_add(obj, TEXTS[i], val);
    }
    if (http_query_get(msg->query, "hidden", &value)) {
        bool truth = span_is(buf_span(&value), "true");
        bool fits = truth || span_is(buf_span(&value), "false");
        query_add(obj, "hidden",
                  (struct json_val){.type = fits ? JSON_BOOL : JSON_STRING, .truth = truth});
    }
    buf_close(&value);
}
