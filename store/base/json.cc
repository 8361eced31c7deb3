/* simdjson validates (grammar, UTF-8, escapes, numbers, depth); the walk over what it has found
 * valid is ours, because it must give slices of the text back as they were written. */
#include "store/base/json.h"

#include <cstdio>
#include <cstdlib>
#include <new>
#include <simdjson.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

extern "C" {
#include "store/base/check.h"
#include "store/base/err.h"
}

/* Nested values that are opened add their strings to those of the levels above. */
enum { STRINGS_TIMES = 4 };

struct json {
    simdjson::dom::parser parser;
    size_t bytes_max;
    char *text; /* minified, padded */
    size_t text_cap;
    char *strings; /* unescaped strings of the current parse: never longer than the text */
    size_t strings_used;
    const char *error;

    explicit json(size_t max)
        : parser(max), bytes_max(max), text(nullptr), text_cap(0), strings(nullptr),
          strings_used(0), error("")
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

/* ---- the walk: over text that is valid and has no white space ---- */

/* The next quote or backslash: one is there, and padding is behind it. */
#ifdef __SSE2__
static const char *find_special(const char *p)
{
    const __m128i quotes = _mm_set1_epi8('"'), slashes = _mm_set1_epi8('\\');
    for (;; p += sizeof(__m128i)) {
        __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i *>(p));
        __m128i found = _mm_or_si128(_mm_cmpeq_epi8(bytes, quotes), _mm_cmpeq_epi8(bytes, slashes));
        int mask = _mm_movemask_epi8(found);
        if (mask != 0)
            return p + __builtin_ctz(static_cast<unsigned>(mask));
    }
}
#else
static const char *find_special(const char *p)
{
    const uint64_t ones = 0x0101010101010101u, highs = ones << 7;
    for (;; p += sizeof(uint64_t)) {
        uint64_t bytes = get_le64(p);
        uint64_t quote = bytes ^ (ones * '"'), slash = bytes ^ (ones * '\\');
        uint64_t zeros = (((quote - ones) & ~quote) | ((slash - ones) & ~slash)) & highs;
        if (zeros != 0) /* the lowest of them is true */
            return p + __builtin_ctzll(zeros) / 8;
    }
}
#endif

/* `p` is at the opening quote; returns the place after the closing one. */
static const char *skip_string(const char *p, bool *escaped)
{
    *escaped = false;
    for (p = find_special(p + 1); *p != '"'; p = find_special(p + 2))
        *escaped = true;
    return p + 1;
}

static const char *skip_value(const char *p, const char *end)
{
    int depth = 0;
    bool escaped;
    do {
        switch (*p) {
        case '"':
            p = skip_string(p, &escaped);
            break;
        case '{':
        case '[':
            depth++;
            p++;
            break;
        case '}':
        case ']':
            depth--;
            p++;
            break;
        default: /* number, literal, or punctuation inside */
            p++;
            while (p < end && *p != ',' && *p != '}' && *p != ']' && *p != '"' && *p != '{' &&
                   *p != '[')
                p++;
        }
    } while (depth > 0 && p < end);
    return p;
}

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

/* The content of a string between its quotes. */
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

static struct span string_content(struct json *json, struct span raw, bool escaped)
{
    struct span inner = span_of(raw.p + 1, raw.n - 2);
    return escaped ? unescape(json, inner) : inner;
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

/* One value at `p`; returns the place after it. */
static const char *read_value(struct json *json, const char *p, const char *end,
                              struct json_val *val)
{
    *val = json_val{};
    bool escaped = false;
    const char *after = *p == '"' ? skip_string(p, &escaped) : skip_value(p, end);
    val->raw = span_of(p, (size_t)(after - p));
    switch (*p) {
    case '"':
        val->type = JSON_STRING;
        val->str = string_content(json, val->raw, escaped);
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
        val->truth = *p == 't';
        break;
    case 'n':
        val->type = JSON_NULL;
        break;
    default:
        val->type = JSON_NUMBER;
        read_number(val);
    }
    return after;
}

/* A name and its value at `p`; returns the place after them. */
static const char *read_member(struct json *json, const char *p, const char *end,
                               struct json_field *field)
{
    bool escaped;
    const char *after = skip_string(p, &escaped);
    field->name = string_content(json, span_of(p, (size_t)(after - p)), escaped);
    return read_value(json, after + 1, end, &field->val);
}

/* `obj` has members only when all of them are right. */
static int read_object(struct json *json, struct span raw, struct json_obj *obj)
{
    const char *p = raw.p + 1, *end = raw.p + raw.n;
    size_t count = 0;
    obj->count = 0;
    if (json->strings_used + raw.n > STRINGS_TIMES * json->text_cap)
        return fail(json, "opened too often");
    while (*p != '}') {
        if (*p == ',')
            p++;
        if (count == JSON_FIELDS_MAX)
            return fail(json, "an object with too many members");
        struct json_field *field = &obj->fields[count];
        p = read_member(json, p, end, field);
        for (size_t i = 0; i < count; i++)
            if (span_eq(obj->fields[i].name, field->name))
                return fail(json, "a member is there twice");
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
    size_t size = 0;
    simdjson::error_code code = simdjson::minify(text, n, json->text, size);
    if (code != simdjson::SUCCESS)
        return fail(json, reason(code));
    memset(json->text + size, 0, JSON_PADDING);
    char *whole = json->text;
    if (size < n) { /* without its white space `1 2` would pass for a number */
        whole = json->strings;
        memcpy(whole, text, n);
        memset(whole + n, 0, JSON_PADDING);
    }
    if (json->parser.max_depth() != JSON_DEPTH_MAX || json->parser.capacity() < n)
        code =
            json->parser.allocate(json->bytes_max < 1024 ? 1024 : json->bytes_max, JSON_DEPTH_MAX);
    simdjson::dom::element root;
    if (code == simdjson::SUCCESS)
        code = json->parser.parse(whole, n, false).get(root);
    if (code != simdjson::SUCCESS)
        return fail(json, reason(code));
    if (!root.is_object())
        return fail(json, "not an object");
    return read_object(json, span_of(json->text, size), obj);
}

int json_open(struct json *json, const struct json_val *val, struct json_obj *obj)
{
    obj->count = 0;
    if (val->type != JSON_OBJECT)
        return fail(json, "not an object");
    return read_object(json, val->raw, obj);
}

int json_items(struct json *json, const struct json_val *val, struct json_val *vals, size_t max)
{
    if (val->type != JSON_ARRAY)
        return fail(json, "not an array");
    const char *p = val->raw.p + 1, *end = val->raw.p + val->raw.n;
    size_t count = 0;
    if (json->strings_used + val->raw.n > STRINGS_TIMES * json->text_cap)
        return fail(json, "opened too often");
    while (*p != ']') {
        if (*p == ',')
            p++;
        struct json_val spare;
        p = read_value(json, p, end, count < max ? &vals[count] : &spare);
        count++;
    }
    return (int)count;
}

int json_each(struct json *json, const struct json_val *val,
              bool (*fn)(void *arg, const struct json_field *field), void *arg)
{
    if (val->type != JSON_OBJECT)
        return fail(json, "not an object");
    const char *p = val->raw.p + 1, *end = val->raw.p + val->raw.n;
    while (*p != '}') {
        if (*p == ',')
            p++;
        if (json->strings_used + (size_t)(end - p) > STRINGS_TIMES * json->text_cap)
            return fail(json, "opened too often"); /* `fn` may open more */
        struct json_field field;
        p = read_member(json, p, end, &field);
        if (!fn(arg, &field))
            return fail(json, "a member that does not fit");
    }
    return 0;
}

const struct json_val *json_get(const struct json_obj *obj, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < obj->count; i++)
        if (obj->fields[i].name.n == n && memcmp(obj->fields[i].name.p, name, n) == 0)
            return &obj->fields[i].val;
    return nullptr;
}

bool utf8_valid(struct span text)
{
    return simdjson::validate_utf8(text.p, text.n);
}
