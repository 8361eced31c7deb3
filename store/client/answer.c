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

uint64_t answer_number(const struct json_obj *obj, const char *name)
{
    const struct json_val *val = json_get(obj, name);
    return val != NULL && val->is_whole && val->whole > 0 ? (uint64_t)val->whole : 0;
}

struct span answer_string(const struct json_obj *obj, const char *name)
{
    const struct json_val *val = json_get(obj, name);
    return val != NULL && val->type == JSON_STRING ? val->str : (struct span){0};
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

bool record_parse(struct json *json, const struct json_obj *obj, struct span text,
                  struct loquat_text c, struct loquat_record *record)
{
    *record = (struct loquat_record){.c = c, .json = text_of(text)};
    struct span conv = answer_string(obj, "c");
    if (conv.p != NULL)
        record->c = text_of(conv);
    const struct json_val *hole = json_get(obj, "hole");
    if (hole != NULL) {
        struct json_val ends[2];
        if (json_items(json, hole, ends, 2) != 2 || ends[0].whole <= 0 ||
            ends[1].whole < ends[0].whole)
            return false;
        record->hole = true;
        record->s = (uint64_t)ends[0].whole;
        record->last = (uint64_t)ends[1].whole;
        record->why = text_of(answer_string(obj, "why"));
        return true;
    }
    record->s = record->last = answer_number(obj, "s");
    record->ts = answer_number(obj, "ts");
    record->n = answer_number(obj, "n");
    record->from = text_of(answer_string(obj, "from"));
    record->kind = text_of(answer_string(obj, "kind"));
    const struct json_val *body = json_get(obj, "body");
    if (body != NULL)
        record->body = text_of(body->raw);
    return record->s > 0;
}
