/* simdjson validates (grammar, UTF-8, escapes, numbers, depth) and says where the tokens are; they
 * are read here, because slices of the text have to be given back as they were written. */
#include "store/base/json.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <simdjson.h>

extern "C" {
#include "store/base/check.h"
#include "store/base/err.h"
}

/* Nested values that are opened add their strings to those of the levels above. */
enum { STRINGS_TIMES = 4 };

/* Brackets, commas, colons, and where a string, number or literal begins. */
struct token {
    uint32_t at;   /* in the text */
    uint32_t last; /* of an opening bracket: its closing one; of others: itself */
};

struct json {
    simdjson::dom::parser parser;
    size_t bytes_max;
    char *text; /* minified, padded */
    size_t text_cap;
    struct token *tokens; /* of the text, and one more where it ends */
    size_t token_count, token_cap;
    char *strings; /* unescaped strings of the current parse: never longer than the text */
    size_t strings_used;
    const char *error;

    explicit json(size_t max)
        : parser(max), bytes_max(max), text(nullptr), text_cap(0), tokens(nullptr), token_count(0),
          token_cap(0), strings(nullptr), strings_used(0), error("")
    {
    }
};

struct json *json_new(size_t bytes_max)
{
    struct json *json = new (std::nothrow) struct json(bytes_max);
    if (json == nullptr)
        check_no_memory(sizeof *json);
    return json;
}

void json_free(struct json *json)
{
    if (json == nullptr)
        return;
    free(json->text);
    free(json->tokens);
    free(json->strings);
    delete json;
}

const char *json_error(const struct json *json)
{
    return json->error;
}

static int fail(struct json *json, const char *why)
{
    json->error = why;
    return ERR_BAD_REQUEST;
}

static void make_room(struct json *json, size_t n)
{
    if (n + JSON_PADDING <= json->text_cap)
        return;
    json->text_cap = n + n / 2 + 1024 + JSON_PADDING;
    json->text = static_cast<char *>(xrealloc(json->text, json->text_cap));
    json->strings = static_cast<char *>(xrealloc(json->strings, STRINGS_TIMES * json->text_cap));
}

/* ---- tokens of a text that is valid ---- */

static size_t minify(struct json *json, size_t n)
{
    size_t size = 0;
    simdjson::error_code code = simdjson::minify(json->text, n, json->strings, size);
    ASSERT(code == simdjson::SUCCESS);
    memcpy(json->text, json->strings, size);
    memset(json->text + size, 0, JSON_PADDING);
    return size;
}

/* In a text that is minified a token ends where the next one begins. */
static void take_tokens(struct json *json, size_t n)
{
    const uint32_t *starts = json->parser.implementation->structural_indexes.get();
    const unsigned char *text = reinterpret_cast<const unsigned char *>(json->text);
    size_t count = json->parser.implementation->n_structural_indexes, depth = 1;
    uint32_t open[JSON_DEPTH_MAX], spaces = starts[0];
    if (count >= json->token_cap) {
        json->token_cap = count + count / 2 + 128;
        json->tokens = static_cast<struct token *>(
            xrealloc(json->tokens, json->token_cap * sizeof *json->tokens));
    }
    ASSERT(text[starts[0]] == '{'); /* places count from the text's beginning */
    json->tokens[0] = {0, 0};       /* the object that the text is */
    open[0] = 0;
    for (uint32_t i = 1; i < count; i++) {
        const unsigned char *p = text + starts[i];
        for (const unsigned char *before = p - 1; *before <= ' '; before--)
            spaces++;
        json->tokens[i] = {starts[i] - spaces, i};
        if (*p == '{' || *p == '[') {
            ASSERT(depth < JSON_DEPTH_MAX);
            open[depth++] = i;
        } else if (*p == '}' || *p == ']') {
            ASSERT(depth > 0);
            json->tokens[open[--depth]].last = i;
        }
    }
    if (spaces > 0 || text[n - 1] <= ' ')
        n = minify(json, n);
    json->tokens[count] = {static_cast<uint32_t>(n), 0};
    json->token_count = count;
}

/* The one with which `val` begins. A value that a caller made of a slice does not know it. */
static size_t token_of(const struct json *json, const struct json_val *val)
{
    size_t at = static_cast<size_t>(val->raw.p - json->text), i = val->token;
    if (i < json->token_count && json->tokens[i].at == at)
        return i;
    auto before = [](const struct token &token, size_t place) { return token.at < place; };
    const struct token *begin = json->tokens, *end = begin + json->token_count;
    const struct token *found = std::lower_bound(begin, end, at, before);
    ASSERT(found < end && found->at == at);
    return static_cast<size_t>(found - begin);
}

/* ---- what they say ---- */

static unsigned hex4(const char *p)
{
    unsigned value = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        unsigned digit = c <= '9' ? (unsigned)(c - '0') : ((unsigned)(c | 0x20) - 'a' + 10);
        value = value << 4 | digit;
    }
    return value;
}

static char *put_utf8(char *out, unsigned code)
{
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xc0 | code >> 6);
        *out++ = (char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *out++ = (char)(0xe0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 0x3f));
        *out++ = (char)(0x80 | (code & 0x3f));
    } else {
        *out++ = (char)(0xf0 | code >> 18);
        *out++ = (char)(0x80 | (code >> 12 & 0x3f));
        *out++ = (char)(0x80 | (code >> 6 & 0x3f));
        *out++ = (char)(0x80 | (code & 0x3f));
    }
    return out;
}

static char unescape_one(char c)
{
    switch (c) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return c; /* quote, backslash, slash */
    }
}

static struct span unescape(struct json *json, struct span in)
{
    char *start = json->strings + json->strings_used, *out = start;
    const char *p = in.p, *end = in.p + in.n;
    while (p < end) {
        if (*p != '\\') {
            *out++ = *p++;
            continue;
        }
        p++;
        if (*p != 'u') {
            *out++ = unescape_one(*p++);
            continue;
        }
        unsigned code = hex4(p + 1);
        p += 5;
        if (code >= 0xd800 && code < 0xdc00) { /* valid: its other half follows */
            code = 0x10000 + ((code - 0xd800) << 10) + (hex4(p + 2) - 0xdc00);
            p += 6;
        }
        out = put_utf8(out, code);
    }
    json->strings_used += (size_t)(out - start);
    return span_of(start, (size_t)(out - start));
}

/* Of the token, as written. */
static struct span token_text(const struct json *json, size_t first)
{
    const struct token *token = &json->tokens[first];
    return span_of(json->text + token->at, json->tokens[token->last + 1].at - token->at);
}

static struct span string_content(struct json *json, struct span raw)
{
    struct span inner = span_of(raw.p + 1, raw.n - 2);
    return memchr(inner.p, '\\', inner.n) != nullptr ? unescape(json, inner) : inner;
}

/* A number of nothing but digits, few enough to be below 2^53. */
static bool read_digits(struct json_val *val)
{
    int64_t whole = 0;
    for (size_t i = 0; i < val->raw.n; i++) {
        unsigned digit = static_cast<unsigned char>(val->raw.p[i]) - '0';
        if (digit > 9)
            return false;
        whole = whole * 10 + digit;
    }
    val->is_whole = true;
    val->whole = whole;
    val->num = static_cast<double>(whole);
    return true;
}

static void read_number(struct json_val *val)
{
    if (val->raw.n <= 15 && read_digits(val))
        return;
    val->num = strtod(val->raw.p, nullptr); /* ends at the punctuation after it */
    const double limit = 9007199254740992.0;
    if (val->num > -limit && val->num < limit && val->num == (double)(int64_t)val->num) {
        val->is_whole = true;
        val->whole = (int64_t)val->num;
    }
}

/* The value that begins with token `i`; returns the token after it. */
static size_t read_value(struct json *json, size_t i, struct json_val *val)
{
    *val = json_val{};
    val->token = static_cast<uint32_t>(i);
    val->raw = token_text(json, i);
    switch (*val->raw.p) {
    case '"':
        val->type = JSON_STRING;
        val->str = string_content(json, val->raw);
        break;
    case '{':
        val->type = JSON_OBJECT;
        break;
    case '[':
        val->type = JSON_ARRAY;
        break;
    case 't':
    case 'f':
        val->type = JSON_BOOL;
        val->truth = *val->raw.p == 't';
        break;
    case 'n':
        val->type = JSON_NULL;
        break;
    default:
        val->type = JSON_NUMBER;
        read_number(val);
    }
    return json->tokens[i].last + 1;
}

/* A name, which is token `i`, and its value; returns the token after them. */
static size_t read_member(struct json *json, size_t i, struct json_field *field)
{
    field->name = string_content(json, token_text(json, i));
    return read_value(json, i + 2, &field->val);
}

/* Names are short: a call would take longer. */
static bool same_name(struct span name, const char *other, size_t n)
{
    if (name.n != n)
        return false;
    while (n > 0 && name.p[n - 1] == other[n - 1])
        n--;
    return n == 0;
}

/* Different names seldom share one: that a name is new is mostly known without a look at others. */
static uint64_t name_bit(struct span name)
{
    uint64_t first = static_cast<unsigned char>(*name.p); /* of an empty one: the quote behind it */
    return UINT64_C(1) << ((first ^ name.n << 5) & 63);
}

/* `open` is its bracket. `obj` has members only when all of them are right. */
static int read_object(struct json *json, size_t open, struct json_obj *obj)
{
    size_t count = 0, last = json->tokens[open].last;
    uint64_t seen = 0;
    obj->count = 0;
    if (json->strings_used + token_text(json, open).n > STRINGS_TIMES * json->text_cap)
        return fail(json, "opened too often");
    for (size_t i = open + 1; i < last; i++) { /* past a comma */
        if (count == JSON_FIELDS_MAX)
            return fail(json, "an object with too many members");
        struct json_field *field = &obj->fields[count];
        i = read_member(json, i, field);
        uint64_t bit = name_bit(field->name);
        for (size_t k = 0; (seen & bit) != 0 && k < count; k++)
            if (same_name(obj->fields[k].name, field->name.p, field->name.n))
                return fail(json, "a member is there twice");
        seen |= bit;
        count++;
    }
    obj->count = count;
    return 0;
}

/* ---- the calls ---- */

static const char *reason(simdjson::error_code code)
{
    switch (code) {
    case simdjson::MEMALLOC: /* nothing about the text: it must not be refused for this */
        check_no_memory(0);
    case simdjson::UTF8_ERROR:
        return "not UTF-8";
    case simdjson::DEPTH_ERROR:
        return "nested too deeply";
    case simdjson::STRING_ERROR:
        return "a string with a bad escape";
    case simdjson::NUMBER_ERROR:
        return "a number that can't be";
    case simdjson::EMPTY:
        return "nothing there";
    case simdjson::UNESCAPED_CHARS:
        return "a control character in a string";
    case simdjson::UNCLOSED_STRING:
        return "a string without an end";
    default:
        return "not JSON";
    }
}

int json_parse(struct json *json, const char *text, size_t n, struct json_obj *obj)
{
    obj->count = 0;
    json->strings_used = 0;
    if (n > json->bytes_max) {
        json->error = "too large";
        return ERR_TOO_LARGE;
    }
    make_room(json, n);
    if (n > 0)
        memcpy(json->text, text, n);
    memset(json->text + n, 0, JSON_PADDING);
    simdjson::error_code code = simdjson::SUCCESS;
    if (json->parser.max_depth() != JSON_DEPTH_MAX || json->parser.capacity() < n)
        code =
            json->parser.allocate(json->bytes_max < 1024 ? 1024 : json->bytes_max, JSON_DEPTH_MAX);
    simdjson::dom::element root;
    if (code == simdjson::SUCCESS)
        code = json->parser.parse(json->text, n, false).get(root);
    if (code != simdjson::SUCCESS)
        return fail(json, reason(code));
    if (!root.is_object())
        return fail(json, "not an object");
    take_tokens(json, n);
    return read_object(json, 0, obj);
}

int json_open(struct json *json, const struct json_val *val, struct json_obj *obj)
{
    obj->count = 0;
    if (val->type != JSON_OBJECT)
        return fail(json, "not an object");
    return read_object(json, token_of(json, val), obj);
}

int json_items(struct json *json, const struct json_val *val, struct json_val *vals, size_t max)
{
    if (val->type != JSON_ARRAY)
        return fail(json, "not an array");
    if (json->strings_used + val->raw.n > STRINGS_TIMES * json->text_cap)
        return fail(json, "opened too often");
    size_t open = token_of(json, val), last = json->tokens[open].last, count = 0;
    for (size_t i = open + 1; i < last; i++, count++) /* past a comma */
        i = count < max ? read_value(json, i, &vals[count]) : json->tokens[i].last + 1;
    return (int)count;
}

int json_each(struct json *json, const struct json_val *val,
              bool (*fn)(void *arg, const struct json_field *field), void *arg)
{
    if (val->type != JSON_OBJECT)
        return fail(json, "not an object");
    size_t open = token_of(json, val), last = json->tokens[open].last;
    for (size_t i = open + 1; i < last; i++) { /* past a comma */
        size_t rest = json->tokens[last].at - json->tokens[i].at;
        if (json->strings_used + rest > STRINGS_TIMES * json->text_cap)
            return fail(json, "opened too often"); /* `fn` may open more */
        struct json_field field;
        i = read_member(json, i, &field);
        if (!fn(arg, &field))
            return fail(json, "a member that does not fit");
    }
    return 0;
}

const struct json_val *json_get(const struct json_obj *obj, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < obj->count; i++)
        if (same_name(obj->fields[i].name, name, n))
            return &obj->fields[i].val;
    return nullptr;
}

bool utf8_valid(struct span text)
{
    return simdjson::validate_utf8(text.p, text.n);
}
