#include "store/client/answer.h"

#include <assert.h>
#include <stdio.h>

#include "store/base/err.h"

#define SAME(name) static_assert((int)LOQUAT_##name == (int)ERR_##name, #name)
SAME(BAD_REQUEST);
SAME(UNAUTHORIZED);
SAME(FORBIDDEN);
SAME(NOT_FOUND);
SAME(CONFLICT);
SAME(TOO_LARGE);
SAME(RATE_LIMITED);
SAME(TRIMMED);
SAME(UNAVAILABLE);
SAME(INTERNAL);
SAME(BUSY);
SAME(CLOSED);
#undef SAME

const char *loquat_err_name(int err)
{
    if (err == LOQUAT_BUSY)
        return "busy";
    if (err == LOQUAT_CLOSED)
        return "closed";
    return err == 0 ? "ok" : err_wire(err);
}

int answer_code(struct span code)
{
    for (int err = LOQUAT_BAD_REQUEST; err >= LOQUAT_INTERNAL; err--)
        if (span_is(code, err_wire(err)))
            return err;
    return LOQUAT_INTERNAL;
}

static struct loquat_text text_of(struct span span)
{
    return (struct loquat_text){span.p, span.n};
}

static uint64_t number(const struct json_val *val)
{
    return val != NULL && val->is_whole && val->whole > 0 ? (uint64_t)val->whole : 0;
}

static struct span string(const struct json_val *val)
{
    return val != NULL && val->type == JSON_STRING ? val->str : (struct span){0};
}

uint64_t answer_number(const struct json_obj *obj, const char *name)
{
    return number(json_get(obj, name));
}

struct span answer_string(const struct json_obj *obj, const char *name)
{
    return string(json_get(obj, name));
}

static bool truth(const struct json_obj *obj, const char *name)
{
    const struct json_val *val = json_get(obj, name);
    return val != NULL && val->type == JSON_BOOL && val->truth;
}

static void word_copy(char *out, size_t max, struct span word)
{
    size_t n = word.n < max ? word.n : max;
    if (n > 0)
        memcpy(out, word.p, n);
    out[n] = 0;
}

void answer_make(int err, const char *message, struct answer_words *words,
                 struct loquat_answer *answer)
{
    word_copy(words->code, ANSWER_CODE_MAX, span_str(err != 0 ? loquat_err_name(err) : ""));
    word_copy(words->message, ANSWER_MESSAGE_MAX, span_str(message));
    *answer = (struct loquat_answer){.err = err, .code = words->code, .message = words->message};
}

void answer_parse(struct json *json, const struct json_obj *obj, struct answer_words *words,
                  struct loquat_answer *answer)
{
    struct json_obj inner;
    const struct json_val *ok = json_get(obj, "ok"), *err = json_get(obj, "err");
    answer_make(0, "", words, answer);
    if (ok != NULL && ok->type == JSON_OBJECT) {
        answer->json = text_of(ok->raw);
        if (json_open(json, ok, &inner) != 0)
            return; /* more fields than are opened here: the text is all there is */
        answer->s = answer_number(&inner, "s");
        answer->ts = answer_number(&inner, "ts");
        answer->n = answer_number(&inner, "n");
        answer->dup = truth(&inner, "dup");
        return;
    }
    if (err == NULL || json_open(json, err, &inner) != 0) {
        answer_make(LOQUAT_INTERNAL, "the answer is neither ok nor err", words, answer);
        return;
    }
    answer->err = answer_code(answer_string(&inner, "code"));
    word_copy(words->code, ANSWER_CODE_MAX, answer_string(&inner, "code"));
    word_copy(words->message, ANSWER_MESSAGE_MAX, answer_string(&inner, "msg"));
    answer->retry = truth(&inner, "retry");
    answer->after_ms = (uint32_t)answer_number(&inner, "after_ms");
}

static bool hole_parse(struct json *json, const struct json_obj *obj, const struct json_val *hole,
                       struct loquat_record *record)
{
    struct json_val ends[2];
    if (json_items(json, hole, ends, 2) != 2 || ends[0].whole <= 0 || ends[1].whole < ends[0].whole)
        return false;
    record->hole = true;
    record->s = (uint64_t)ends[0].whole;
    record->last = (uint64_t)ends[1].whole;
    record->why = text_of(answer_string(obj, "why"));
    return true;
}

bool record_parse(struct json *json, const struct json_obj *obj, struct span text,
                  struct loquat_text c, struct loquat_record *record)
{
    *record = (struct loquat_record){.c = c, .json = text_of(text)};
    const struct json_val *hole = NULL;
    for (size_t i = 0; i < obj->count; i++) { /* once, not for each name: pages are long */
        struct span name = obj->fields[i].name;
        const struct json_val *val = &obj->fields[i].val;
        if (span_is(name, "c"))
            record->c = val->type == JSON_STRING ? text_of(val->str) : c;
        else if (span_is(name, "s"))
            record->s = record->last = number(val);
        else if (span_is(name, "ts"))
            record->ts = number(val);
        else if (span_is(name, "n"))
            record->n = number(val);
        else if (span_is(name, "from"))
            record->from = text_of(string(val));
        else if (span_is(name, "kind"))
            record->kind = text_of(string(val));
        else if (span_is(name, "body"))
            record->body = text_of(val->raw);
        else if (span_is(name, "hole"))
            hole = val;
    }
    if (hole != NULL) {
        *record = (struct loquat_record){.c = record->c, .json = record->json};
        return hole_parse(json, obj, hole, record);
    }
    return record->s > 0;
}
