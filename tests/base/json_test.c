#include "store/base/json.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "store/base/check.h"
#include "store/base/err.h"

enum { BYTES_MAX = 65536 };

static struct json *json;
static struct json_obj obj, inner;

static void setup(void)
{
    json = json_new(BYTES_MAX);
}

static void teardown(void)
{
    json_free(json);
}

TestSuite(json, .init = setup, .fini = teardown);

/* From memory of exactly that size: a read beyond it is seen by sanitizers. */
static int parse_bytes(struct span text)
{
    char *copy = xmalloc(text.n);
    memcpy(copy, text.p, text.n);
    int err = json_parse(json, copy, text.n, &obj);
    free(copy);
    return err;
}

static void parse(const char *text)
{
    cr_assert(eq(int, parse_bytes(span_str(text)), 0), "%s: %s", text, json_error(json));
}

static void refused(const char *text)
{
    cr_assert(eq(int, parse_bytes(span_str(text)), ERR_BAD_REQUEST), "%s", text);
    cr_assert(lt(sz, 0, strlen(json_error(json))));
    cr_assert(eq(sz, obj.count, 0), "%s", text);
}

static const struct json_val *get(const char *name)
{
    const struct json_val *val = json_get(&obj, name);
    cr_assert(ne(ptr, (void *)val, NULL), "%s", name);
    return val;
}

/* ---- values ---- */

Test(json, every_type_of_value)
{
    parse("{\"s\":\"x\",\"n\":-1.5,\"w\":7,\"t\":true,\"f\":false,\"z\":null,\"a\":[1],\"o\":{}}");
    cr_assert(eq(sz, obj.count, 8));
    cr_assert(eq(int, get("s")->type, JSON_STRING));
    cr_assert(span_is(get("s")->str, "x"));
    cr_assert(span_is(get("s")->raw, "\"x\""));
    cr_assert(eq(int, get("n")->type, JSON_NUMBER));
    cr_assert(eq(dbl, get("n")->num, -1.5));
    cr_assert(not(get("n")->is_whole));
    cr_assert(eq(i64, get("w")->whole, 7));
    cr_assert(eq(int, get("t")->type, JSON_BOOL));
    cr_assert(get("t")->truth);
    cr_assert(not(get("f")->truth));
    cr_assert(eq(int, get("z")->type, JSON_NULL));
    cr_assert(eq(int, get("a")->type, JSON_ARRAY));
    cr_assert(eq(int, get("o")->type, JSON_OBJECT));
    cr_assert(span_is(get("o")->raw, "{}"));
    cr_assert(eq(ptr, (void *)json_get(&obj, "x"), NULL));
    cr_assert(eq(ptr, (void *)json_get(&obj, ""), NULL));
}

/* Slices come back without white space, otherwise as written. */
Test(json, slices_are_minified)
{
    parse(
        " \t\r\n{ \"a\" : { \"k y\" : [ 1 , \"\\u0041 \\\" \" , 1.50E+1 ] , \"b\":\t\n{ } } } \n");
    cr_assert(span_is(get("a")->raw, "{\"k y\":[1,\"\\u0041 \\\" \",1.50E+1],\"b\":{}}"));
    parse("{}");
    cr_assert(eq(sz, obj.count, 0));
}

Test(json, strings_are_unescaped)
{
    parse("{\"a\\u0062\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000\\u00e9\\u20ac\\ud83d\\ude00\"}");
    struct span want = span_of("\"\\/\b\f\n\r\t\0\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 18);
    cr_assert(span_eq(get("ab")->str, want));
    parse("{\"\":\"\",\"x\":\"\xf0\x9f\x98\x80\"}");
    cr_assert(eq(sz, get("")->str.n, 0));
    cr_assert(span_is(get("x")->str, "\xf0\x9f\x98\x80"));
}

static void number(const char *text, bool is_whole, int64_t whole)
{
    struct buf in = {0};
    buf_addf(&in, "{\"n\":%s,\"after\":1}", text);
    cr_assert(eq(int, parse_bytes(buf_span(&in)), 0), "%s", text);
    cr_assert(eq(int, get("n")->is_whole, is_whole), "%s", text);
    cr_assert(eq(i64, get("n")->whole, whole), "%s", text);
    cr_assert(span_is(get("n")->raw, text));
    buf_close(&in);
}

/* Whole numbers are exact or they are not whole. */
Test(json, whole_numbers_end_below_two_to_53)
{
    number("0", true, 0);
    number("-0", true, 0);
    number("9007199254740991", true, 9007199254740991);
    number("-9007199254740991", true, -9007199254740991);
    number("9007199254740992", false, 0);
    number("9007199254740993", false, 0);
    number("-9007199254740992", false, 0);
    number("18446744073709551615", false, 0);
    number("1e300", false, 0);
    number("1e2", true, 100);
    number("1.0", true, 1);
    number("100e-2", true, 1);
    number("0.5", false, 0);
    number("1e-400", true, 0);
    number("123.000000000000000000000000000000000000000000000000000000000000000000000e1", true,
           1230);
}

/* ---- what is refused ---- */

Test(json, other_texts_are_refused)
{
    static const char *const BAD[] = {"",
                                      " ",
                                      "[]",
                                      "1",
                                      "\"a\"",
                                      "null",
                                      "{",
                                      "}",
                                      "{}}",
                                      "{}{}",
                                      "{} x",
                                      "{},",
                                      "{\"a\"}",
                                      "{\"a\":}",
                                      "{\"a\":1,}",
                                      "{,\"a\":1}",
                                      "{\"a\":1 \"b\":2}",
                                      "{\"a\" 1}",
                                      "{a:1}",
                                      "{'a':1}",
                                      "{\"a\":[1,]}",
                                      "{\"a\":[1 2]}",
                                      "{\"a\":[}",
                                      "{\"a\":[1}}",
                                      "{\"a\":tru}",
                                      "{\"a\":True}",
                                      "{\"a\":NaN}",
                                      "{\"a\":Infinity}",
                                      "{\"a\":undefined}",
                                      "{\"a\":1}/**/",
                                      "\xef\xbb\xbf{}",
                                      "{\"a\":\"\t\"}",
                                      "{\"a\":\"\n\"}",
                                      "{\"a\":\"b}",
                                      "{\"a\":\"\\\"}",
                                      "{\"a\":\"\\x41\"}",
                                      "{\"a\":\"\\u12\"}",
                                      "{\"a\":\"\\u12g4\"}",
                                      "{1:2}",
                                      "{\"a\":{\"b\":}}"};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        refused(BAD[i]);
    cr_assert(eq(int, parse_bytes(span_of("{\"a\":\0}", 7)), ERR_BAD_REQUEST));
    cr_assert(eq(int, parse_bytes(span_of("{\"a\":\"\0\"}", 9)), ERR_BAD_REQUEST));
    cr_assert(eq(int, parse_bytes(span_of("{}\0", 3)), ERR_BAD_REQUEST));
}

/* White space ends a token: what it separates is not read as one. */
Test(json, white_space_inside_a_token)
{
    refused("{\"a\":1 2}");
    refused("{\"a\":- 1}");
    refused("{\"a\":1. 5}");
    refused("{\"a\":1 e5}");
    refused("{\"a\":tr ue}");
    refused("{\"a\":nu\nll}");
    refused("{\"a\":[1,2 3]}");
}

Test(json, numbers_that_can_not_be)
{
    static const char *const BAD[] = {"01",
                                      "-",
                                      "+1",
                                      ".5",
                                      "1.",
                                      "1e",
                                      "1e+",
                                      "0x1",
                                      "1e400",
                                      "-1e400",
                                      "18446744073709551616",
                                      "--1",
                                      "1-",
                                      "1.2.3",
                                      "00",
                                      "-01"};
    char text[64];
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        snprintf(text, sizeof text, "{\"a\":%s}", BAD[i]);
        refused(text);
    }
}

Test(json, lone_surrogates)
{
    refused("{\"a\":\"\\ud83d\"}");
    refused("{\"a\":\"\\ude00\"}");
    refused("{\"a\":\"\\ude00\\ud83d\"}");
    refused("{\"a\":\"\\ud83dx\"}");
    refused("{\"a\":\"\\ud83d\\n\"}");
    refused("{\"a\":\"\\ud83d\\u0041\"}");
    refused("{\"\\ud83d\":1}");
}

Test(json, bad_utf8)
{
    static const char *const BAD[] = {
        "\xff",     "\x80",         "\xc0\xaf",         "\xc3",
        "\xe2\x82", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80"};
    char text[64];
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        snprintf(text, sizeof text, "{\"a\":\"%s\"}", BAD[i]);
        refused(text);
        cr_assert(not(utf8_valid(span_str(BAD[i]))));
    }
    cr_assert(utf8_valid(span_str("κόσμε \xf0\x9f\x98\x80")));
    cr_assert(utf8_valid(span_of("", 0)));
}

/* A name twice is two readings of one text, however it is written. */
Test(json, names_come_once)
{
    refused("{\"a\":1,\"b\":2,\"a\":1}");
    refused("{\"a\":1,\"\\u0061\":2}");
    refused("{\"\":1,\"\":2}");
    parse("{\"a\":{\"b\":1,\"b\":2}}");
    cr_assert(eq(int, json_open(json, get("a"), &inner), ERR_BAD_REQUEST));
}

/* ---- bounds ---- */

static int parse_nested(int levels)
{
    struct buf in = {0};
    buf_add_str(&in, "{\"a\":");
    for (int i = 1; i < levels; i++)
        buf_add_byte(&in, '[');
    for (int i = 1; i < levels; i++)
        buf_add_byte(&in, ']');
    buf_add_str(&in, levels == 1 ? "1}" : "}");
    int err = parse_bytes(buf_span(&in));
    buf_close(&in);
    return err;
}

Test(json, depth_is_bounded)
{
    cr_assert(eq(int, parse_nested(1), 0));
    cr_assert(eq(int, parse_nested(JSON_DEPTH_MAX), 0));
    cr_assert(eq(int, parse_nested(JSON_DEPTH_MAX + 1), ERR_BAD_REQUEST));
    cr_assert(eq(str, (char *)json_error(json), (char *)"nested too deeply"));
    cr_assert(eq(int, parse_nested(20000), ERR_BAD_REQUEST));
}

/* `inside` within so many objects, and nothing after it. */
static int parse_within(int depth, const char *inside)
{
    struct buf in = {0};
    for (int i = 0; i < depth; i++)
        buf_add_str(&in, " { \"a\" : ");
    buf_add_str(&in, inside);
    for (int i = 0; i < depth; i++)
        buf_add_byte(&in, '}');
    int err = parse_bytes(buf_span(&in));
    buf_close(&in);
    return err;
}

/* Whatever the innermost one is, it is bounded alike, and one less can be read. */
Test(json, depth_is_bounded_for_what_is_empty)
{
    static const char *const INSIDE[] = {"{}", "[]", "{ }", "[ \n ]", "[1]", "{\"b\":2}"};
    for (size_t i = 0; i < sizeof INSIDE / sizeof *INSIDE; i++) {
        cr_assert(eq(int, parse_within(JSON_DEPTH_MAX - 2, INSIDE[i]), 0), "%s", INSIDE[i]);
        cr_assert(eq(int, parse_within(JSON_DEPTH_MAX + 1, INSIDE[i]), ERR_BAD_REQUEST), "%s",
                  INSIDE[i]);
    }
}

/* Nothing of a text before is left, longer or shorter, right or wrong. */
Test(json, one_text_after_the_other)
{
    parse("{\"a\":[1,2,{\"b\":[3,4,5]}],\"c\":{\"d\":{}}}");
    parse("{\"c\":{\"e\":1}}");
    cr_assert(eq(int, json_open(json, get("c"), &inner), 0));
    cr_assert(eq(sz, inner.count, 1));
    refused("{\"c\":{\"e\":1}");
    parse(" {\"c\" : { } } ");
    cr_assert(eq(int, json_open(json, get("c"), &inner), 0));
    cr_assert(eq(sz, inner.count, 0));
}

static int parse_fields(int count)
{
    struct buf in = {0};
    for (int i = 0; i < count; i++)
        buf_addf(&in, "%c\"f%d\":%d", i == 0 ? '{' : ',', i, i);
    buf_add_byte(&in, '}');
    int err = parse_bytes(buf_span(&in));
    buf_close(&in);
    return err;
}

Test(json, members_are_bounded)
{
    cr_assert(eq(int, parse_fields(JSON_FIELDS_MAX), 0));
    cr_assert(eq(sz, obj.count, JSON_FIELDS_MAX));
    cr_assert(eq(int, parse_fields(JSON_FIELDS_MAX + 1), ERR_BAD_REQUEST));
}

static int parse_sized(size_t n) /* {"a":"xxx…"} */
{
    struct buf in = {0};
    buf_add_str(&in, "{\"a\":\"");
    for (size_t i = in.n + 2; i < n; i++)
        buf_add_byte(&in, 'x');
    buf_add_str(&in, "\"}");
    int err = parse_bytes(buf_span(&in));
    buf_close(&in);
    return err;
}

Test(json, size_is_bounded)
{
    cr_assert(eq(int, parse_sized(BYTES_MAX), 0));
    cr_assert(eq(int, parse_sized(BYTES_MAX + 1), ERR_TOO_LARGE));
    parse("{}");
}

/* Every size around the blocks that simdjson reads. */
Test(json, sizes_around_block_edges)
{
    for (size_t n = 8; n < 400; n++) {
        cr_assert(eq(int, parse_sized(n), 0), "%zu bytes", n);
        cr_assert(eq(sz, get("a")->str.n, n - 8));
    }
}

/* A text that ends where memory ends is read to its end and no further. */
Test(json, text_before_the_edge_of_a_page)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *two = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(ne(ptr, two, MAP_FAILED));
    cr_assert(eq(int, mprotect(two + page, page, PROT_NONE), 0));
    static const char *const TEXTS[] = {"{}", "{\"a\":\"b\"}", " { \"a\" : [ 1 , 2 ] } ", "{", ""};
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
        size_t n = strlen(TEXTS[i]);
        memcpy(two + page - n, TEXTS[i], n);
        cr_assert(eq(int, json_parse(json, two + page - n, n, &obj), i < 3 ? 0 : ERR_BAD_REQUEST));
    }
    munmap(two, 2 * page);
}

/* ---- nested values ---- */

Test(json, nested_objects_and_arrays)
{
    struct json_val vals[3];
    parse(
        "{\"a\":{\"s\":\"\\n\",\"b\":{\"c\":[\"\\t\",{},[2,\"]\"],true]}},\"z\":\"\\r\",\"e\":[]}");
    cr_assert(eq(int, json_open(json, get("a"), &inner), 0));
    struct json_val b = *json_get(&inner, "b");
    cr_assert(eq(int, json_open(json, &b, &inner), 0));
    struct json_val c = *json_get(&inner, "c");
    cr_assert(eq(int, json_items(json, &c, vals, 3), 4));
    cr_assert(span_is(vals[0].str, "\t"));
    cr_assert(span_is(vals[1].raw, "{}"));
    cr_assert(span_is(vals[2].raw, "[2,\"]\"]"));
    cr_assert(span_is(get("z")->str, "\r")); /* spans of the levels above are as they were */
    cr_assert(eq(int, json_items(json, get("e"), vals, 3), 0));
    cr_assert(eq(int, json_items(json, get("z"), vals, 3), ERR_BAD_REQUEST));
    cr_assert(eq(int, json_open(json, get("e"), &inner), ERR_BAD_REQUEST));
}

/* White space is not in the way of what is inside, wherever it is. */
Test(json, nested_values_between_spaces)
{
    struct json_val vals[3];
    parse(
        " \n{ \"z\" : 1 , \"a\" :\t[ { \"b c\" : [ ] , \"d\":\r\n2.5 } ,\" \\n \", [ 3 ,4 ] ] }  ");
    cr_assert(eq(int, json_items(json, get("a"), vals, 3), 3));
    cr_assert(span_is(vals[0].raw, "{\"b c\":[],\"d\":2.5}"));
    cr_assert(span_is(vals[1].str, " \n "));
    cr_assert(span_is(vals[2].raw, "[3,4]"));
    cr_assert(eq(int, json_open(json, &vals[0], &inner), 0));
    cr_assert(eq(sz, inner.count, 2));
    cr_assert(span_is(inner.fields[0].val.raw, "[]"));
    cr_assert(eq(dbl, json_get(&inner, "d")->num, 2.5));
    struct json_val last = vals[2];
    cr_assert(eq(int, json_items(json, &last, vals, 3), 2));
    cr_assert(eq(i64, vals[1].whole, 4));
}

/* A value's slice is enough to open it. */
Test(json, a_value_made_of_a_slice)
{
    struct json_val vals[2];
    parse("{\"x\":[0],\"a\":{\"b\":[1,2]},\"y\":[3]}");
    struct json_val a = {.type = JSON_OBJECT, .raw = get("a")->raw, .token = 1000};
    cr_assert(eq(int, json_open(json, &a, &inner), 0));
    struct json_val b = {.type = JSON_ARRAY, .raw = json_get(&inner, "b")->raw};
    cr_assert(eq(int, json_items(json, &b, vals, 1), 2));
    cr_assert(eq(i64, vals[0].whole, 1));
}

struct each {
    struct buf names;
    size_t count, stop_at;
    struct json_val vals[1]; /* of the member that is an array */
};

static bool on_member(void *arg, const struct json_field *field)
{
    struct each *each = arg;
    buf_add_span(&each->names, field->name);
    buf_add_byte(&each->names, ' ');
    if (field->val.type == JSON_ARRAY)
        json_items(json, &field->val, each->vals, 1);
    return ++each->count != each->stop_at;
}

/* Members of an object of any size, a name twice as well, until it is enough. */
Test(json, each_member_of_an_object)
{
    struct each each = {0};
    struct buf in = {0};
    parse("{\"a\":{\"x\":1,\"\\u0079\":[\"\\n\"],\"x\":\"\\t\"},\"b\":[]}");
    cr_assert(eq(int, json_each(json, get("a"), on_member, &each), 0));
    cr_assert(span_is(buf_span(&each.names), "x y x "));
    cr_assert(span_is(each.vals[0].str, "\n"));
    each = (struct each){.names = each.names, .stop_at = 2};
    cr_assert(eq(int, json_each(json, get("a"), on_member, &each), ERR_BAD_REQUEST));
    cr_assert(eq(sz, each.count, 2));
    cr_assert(eq(int, json_each(json, get("b"), on_member, &each), ERR_BAD_REQUEST));
    buf_add_str(&in, "{\"a\":{");
    for (int i = 0; i < 10 * JSON_FIELDS_MAX; i++)
        buf_addf(&in, "%s\"%d\":0", i > 0 ? "," : "", i);
    buf_add_str(&in, "}}");
    cr_assert(eq(int, parse_bytes(buf_span(&in)), 0));
    each = (struct each){.names = each.names};
    cr_assert(eq(int, json_each(json, get("a"), on_member, &each), 0));
    cr_assert(eq(sz, each.count, 10 * JSON_FIELDS_MAX));
    buf_close(&in);
    buf_close(&each.names);
}

static bool open_often(void *arg, const struct json_field *field)
{
    struct json_val vals[1];
    for (int i = 0; i < 1000; i++)
        if (json_items(json, &field->val, vals, 1) < 0)
            break;
    return ++*(size_t *)arg > 0;
}

/* What is opened inside takes from the same bound as the members after it. */
Test(json, each_is_bounded_with_what_is_opened_inside)
{
    struct buf in = {0};
    size_t count = 0;
    buf_add_str(&in, "{\"a\":{");
    for (int i = 0; i < 20; i++) {
        buf_addf(&in, "%s\"%d\":[\"", i > 0 ? "," : "", i);
        for (int k = 0; k < 200; k++)
            buf_add_str(&in, "\\n");
        buf_add_str(&in, "\"]");
    }
    buf_add_str(&in, "}}");
    cr_assert(eq(int, parse_bytes(buf_span(&in)), 0));
    cr_assert(eq(int, json_each(json, get("a"), open_often, &count), ERR_BAD_REQUEST));
    cr_assert(lt(sz, count, 20));
    buf_close(&in);
}

/* Opening the same value without end runs into the bound, not out of memory. */
Test(json, opening_is_bounded)
{
    struct json_val vals[2];
    struct buf in = {0};
    buf_add_str(&in, "{\"a\":[\"");
    for (int i = 0; i < 3000; i++)
        buf_add_str(&in, "\\n");
    buf_add_str(&in, "\"]}");
    cr_assert(eq(int, parse_bytes(buf_span(&in)), 0));
    int opened = 0;
    while (json_items(json, get("a"), vals, 2) == 1 && opened < 1000)
        opened++;
    cr_assert(ge(int, opened, 4));
    cr_assert(lt(int, opened, 1000));
    buf_close(&in);
}

/* ---- writing ---- */

static void put(struct span text, const char *want)
{
    struct buf out = {0};
    json_put_string(&out, text);
    cr_assert(span_is(buf_span(&out), want));
    buf_close(&out);
}

Test(json, strings_are_escaped)
{
    put(span_str(""), "\"\"");
    put(span_str("plain"), "\"plain\"");
    put(span_str("\"\\/\b\f\n\r\t\x01\x1f\x7f"),
        "\"\\\"\\\\/\\u0008\\u000c\\n\\r\\t\\u0001\\u001f\x7f\"");
    put(span_of("a\0b", 3), "\"a\\u0000b\"");
    put(span_str("κόσμε \xf0\x9f\x98\x80"), "\"κόσμε \xf0\x9f\x98\x80\"");
}

/* What is written reads back as it was, whatever the byte. */
Test(json, written_strings_read_back)
{
    struct buf in = {0}, out = {0};
    for (int c = 0; c < 128; c++)
        buf_add_byte(&in, (uint8_t)c);
    buf_add_str(&in, "\xc2\x80\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf");
    buf_add_str(&out, "{\"a\":");
    json_put_string(&out, buf_span(&in));
    buf_add_byte(&out, '}');
    cr_assert(eq(int, parse_bytes(buf_span(&out)), 0));
    cr_assert(span_eq(get("a")->str, buf_span(&in)));
    buf_close(&in);
    buf_close(&out);
}

/* Numbers of every length; a character that needs an escape wherever it stands. */
Test(json, put_at_every_length)
{
    char want[64], text[32];
    for (uint64_t v = 1, i = 0; i < 64; i++, v <<= 1) {
        for (uint64_t w = v - 2; w != v + 3; w++) {
            struct buf out = {0};
            json_put_u64(&out, w);
            snprintf(want, sizeof want, "%llu", (unsigned long long)w);
            cr_assert(span_is(buf_span(&out), want), "%s", want);
            buf_close(&out);
        }
    }
    for (size_t n = 1; n < sizeof text; n++) {
        for (size_t at = 0; at < n; at++) {
            struct buf out = {0};
            memset(text, 0xc3, n);
            text[at] = "\"\\\n"[at % 3];
            json_put_string(&out, span_of(text, n));
            cr_assert(eq(sz, out.n, n + 3));
            cr_assert(eq(chr, out.p[1 + at], '\\'));
            cr_assert(eq(chr, out.p[2 + at], "\"\\n"[at % 3]));
            buf_close(&out);
        }
    }
}

Test(json, numbers_are_written)
{
    struct buf out = {0};
    json_put_u64(&out, 0);
    buf_add_byte(&out, ' ');
    json_put_u64(&out, 1234567890);
    buf_add_byte(&out, ' ');
    json_put_u64_string(&out, UINT64_MAX);
    cr_assert(span_is(buf_span(&out), "0 1234567890 \"18446744073709551615\""));
    buf_close(&out);
}
