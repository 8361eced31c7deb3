/* What is said is valid by a parser that is not ours (jansson), and exactly what the protocol's
 * page shows. */
#include "gateway/say.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <jansson.h>

#include "store/base/arena.h"
#include "store/base/err.h"
#include "store/base/jwt.h"
#include "store/base/record.h"

static struct arena arena;
static struct buf out, bytes;
static struct say_place place;

static void setup(void)
{
    arena_init(&arena);
    out = bytes = (struct buf){0};
    place = (struct say_place){.conv = span_str("g-1"), .partition = 3, .self = span_str("anna")};
}

static void teardown(void)
{
    arena_close(&arena);
    buf_close(&out);
    buf_close(&bytes);
}

TestSuite(say, .init = setup, .fini = teardown);

static char *text(const char *literal)
{
    return (char *)(uintptr_t)literal;
}

static void is(const char *want)
{
    json_error_t error;
    json_t *parsed = json_loadb(out.p, out.n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    cr_assert(ne(ptr, parsed, NULL), "%s: %.*s", error.text, (int)out.n, out.p);
    json_decref(parsed);
    buf_add_byte(&out, 0);
    cr_assert(eq(str, out.p, text(want)));
    out.n = 0;
}

static Loquat__Record message(const char *from, const char *body)
{
    Loquat__Record record = LOQUAT__RECORD__INIT;
    record.ts = 1764100001234;
    record.kind = LOQUAT__KIND__KIND_TEXT;
    record.from = text(from);
    record.cid = text("c\"1");
    record.gap = 1;
    record.body.data = (uint8_t *)text(body);
    record.body.len = strlen(body);
    return record;
}

static Loquat__Item item_of(const Loquat__Record *record, uint64_t seq)
{
    Loquat__Item item = LOQUAT__ITEM__INIT;
    bytes.n = 0;
    record_encode(record, &bytes);
    item.seq = seq;
    item.record.data = (uint8_t *)bytes.p;
    item.record.len = bytes.n;
    return item;
}

static void says(const Loquat__Record *record, uint64_t seq, const char *want)
{
    Loquat__Item item = item_of(record, seq);
    cr_assert(zero(int, say_element(&out, &place, &item)));
    is(want);
}

/* The author, and nobody else, sees the own cid; a mid is text. */
Test(say, a_message)
{
    Loquat__Record record = message("anna", "{\"text\":\"hi\"}");
    says(&record, 7,
         "{\"c\":\"g-1\",\"s\":7,\"mid\":\"781244489988583424\",\"ts\":1764100001234,"
         "\"from\":\"anna\",\"kind\":\"text\",\"body\":{\"text\":\"hi\"},\"cid\":\"c\\\"1\",\"n\":"
         "6}");
    place.self = span_str("ann");
    says(&record, 7,
         "{\"c\":\"g-1\",\"s\":7,\"mid\":\"781244489988583424\",\"ts\":1764100001234,"
         "\"from\":\"anna\",\"kind\":\"text\",\"body\":{\"text\":\"hi\"},\"n\":6}");
    place.self = (struct span){0};
    says(&record, 7,
         "{\"c\":\"g-1\",\"s\":7,\"mid\":\"781244489988583424\",\"ts\":1764100001234,"
         "\"from\":\"anna\",\"kind\":\"text\",\"body\":{\"text\":\"hi\"},\"n\":6}");
}

/* All that a message may carry; the body token for token as it was written. */
Test(say, everything_a_message_may_carry)
{
    Loquat__Record record = message("bob", "{\"a\":[1.50,{\"b\":\"\\u2603\"}],\"e\":1E2}");
    char *mentions[] = {text("anna"), text("c.d@e-f_g")};
    record.kind = LOQUAT__KIND__KIND_X;
    record.xkind = text("poll-2");
    record.cid = text("");
    record.reply = 3;
    record.thread = 2;
    record.mentions = mentions;
    record.n_mentions = 2;
    record.expires = 1764100009999;
    Loquat__Item item = item_of(&record, 9007199254740991);
    item.edited = 1764100005555;
    item.body.data = (uint8_t *)text("{\"b\":2}");
    item.body.len = 7;
    item.replies = 4;
    cr_assert(zero(int, say_element(&out, &place, &item)));
    is("{\"c\":\"g-1\",\"s\":9007199254740991,\"mid\":\"781244489988583424\",\"ts\":1764100001234,"
       "\"from\":\"bob\",\"kind\":\"x-poll-2\",\"body\":{\"b\":2},\"n\":9007199254740990,\"reply\":"
       "3,"
       "\"thread\":2,\"mentions\":[\"anna\",\"c.d@e-f_g\"],\"expires\":1764100009999,"
       "\"edited\":1764100005555,\"replies\":4}");
    record.n_mentions = 0;
    record.mention_all = true;
    record.reply = record.thread = record.expires = 0;
    says(&record, 8,
         "{\"c\":\"g-1\",\"s\":8,\"mid\":\"781244489988583424\",\"ts\":1764100001234,"
         "\"from\":\"bob\",\"kind\":\"x-poll-2\","
         "\"body\":{\"a\":[1.50,{\"b\":\"\\u2603\"}],\"e\":1E2},\"n\":7,\"mentions\":\"all\"}");
}

/* Records that change something carry a target and may have no body. */
Test(say, a_delete)
{
    Loquat__Record record = message("bob", "");
    record.kind = LOQUAT__KIND__KIND_DELETE;
    record.cid = text("");
    record.target = 5;
    record.thread = 2; /* of the message that is gone: its root has a reply less */
    says(&record, 8,
         "{\"c\":\"g-1\",\"s\":8,\"mid\":\"781244489988583424\",\"ts\":1764100001234,"
         "\"from\":\"bob\",\"kind\":\"delete\",\"body\":{},\"n\":7,\"thread\":2,\"target\":5}");
}

/* That of an edit is the edit before it, which is nobody's business. */
Test(say, an_edit)
{
    Loquat__Record record = message("bob", "{}");
    record.kind = LOQUAT__KIND__KIND_EDIT;
    record.cid = text("");
    record.target = 5;
    record.thread = 7;
    says(&record, 8,
         "{\"c\":\"g-1\",\"s\":8,\"mid\":\"781244489988583424\",\"ts\":1764100001234,"
         "\"from\":\"bob\",\"kind\":\"edit\",\"body\":{},\"n\":7,\"target\":5}");
}

/* What a newer version wrote is shown as unknown, and ends nothing. */
Test(say, kinds_roles_and_holes_of_a_newer_version)
{
    Loquat__Record record = message("bob", "{}");
    record.kind = 999;
    record.cid = text("");
    says(&record, 8,
         "{\"c\":\"g-1\",\"s\":8,\"mid\":\"781244489988583424\",\"ts\":1764100001234,"
         "\"from\":\"bob\",\"kind\":\"unknown\",\"body\":{},\"n\":7}");
    Loquat__Item item = LOQUAT__ITEM__INIT;
    item.seq = 1;
    item.hole = 999;
    cr_assert(zero(int, say_element(&out, &place, &item)));
    is("{\"c\":\"g-1\",\"hole\":[1,1],\"why\":\"none\"}");
}

Test(say, holes)
{
    static const char *const WHY[] = {"", "erased", "expired", "hidden", "compacted", "trimmed"};
    for (uint32_t hole = 1; hole <= 5; hole++) {
        Loquat__Item item = LOQUAT__ITEM__INIT;
        char want[100];
        item.seq = 4;
        item.last = hole == 1 ? 0 : 9; /* one sequence needs no last */
        item.hole = hole;
        snprintf(want, sizeof want, "{\"c\":\"g-1\",\"hole\":[4,%d],\"why\":\"%s\"}",
                 hole == 1 ? 4 : 9, WHY[hole]);
        cr_assert(zero(int, say_element(&out, &place, &item)));
        is(want);
    }
}

/* A damaged record is an error, and nothing half is said of it. */
Test(say, damage_is_an_error)
{
    Loquat__Record record = message("bob", "{\"text\":\"hi\"}");
    Loquat__Item item = item_of(&record, 7);
    bytes.p[bytes.n - 1] ^= 1;
    cr_assert(eq(int, say_element(&out, &place, &item), ERR_CORRUPT));
    cr_assert(zero(sz, out.n));
}

static Loquat__ConvInfo info_of(uint32_t kind)
{
    Loquat__ConvInfo info = LOQUAT__CONV_INFO__INIT;
    info.conv = text("g-1");
    info.kind = kind;
    info.members = 2;
    info.role = LOQUAT__ROLE__ROLE_OWNER;
    info.head = 7;
    info.floor = 1;
    info.n = 6;
    info.unread = 2;
    info.mentions = 1;
    info.read = 5;
    info.delivered = 6;
    info.since = 1;
    return info;
}

Test(say, conversations)
{
    Loquat__ConvInfo info = info_of(LOQUAT__CONV_KIND__CONV_GROUP);
    info.name = text("a \"name\" \xe2\x98\x83");
    info.topic = text("\\");
    info.ttl_s = 60;
    info.history_joined = true;
    info.announce = true;
    info.lang = "de";
    info.search_off = true;
    uint64_t pins[] = {3, 9007199254740991};
    info.pins = pins;
    info.n_pins = 2;
    struct say_prefs prefs = {5, true, true, span_str("a\nb")};
    cr_assert(zero(int, say_conv(&out, &place, &info, &prefs)));
    is("{\"c\":\"g-1\",\"kind\":\"group\",\"name\":\"a \\\"name\\\" "
       "\xe2\x98\x83\",\"topic\":\"\\\\\","
       "\"members\":2,\"role\":\"owner\",\"head\":7,\"floor\":1,\"n\":6,\"unread\":2,\"mentions\":"
       "1,"
       "\"read\":5,"
       "\"delivered\":6,\"since\":1,\"created\":0,"
       "\"history\":\"joined\",\"ttl\":60,\"announce\":true,\"lang\":\"de\",\"searchable\":false,"
       "\"pins\":[3,9007199254740991],\"muted_until\":5,\"pinned\":true,"
       "\"hidden\":true,\"draft\":\"a\\nb\",\"last\":null}");
    info = info_of(LOQUAT__CONV_KIND__CONV_DIRECT);
    info.with = text("bob");
    info.role = LOQUAT__ROLE__ROLE_NONE;
    Loquat__Record record = message("bob", "{\"text\":\"hi\"}");
    Loquat__Item item = item_of(&record, 7);
    info.last = &item;
    cr_assert(zero(int, say_conv(&out, &place, &info, NULL)));
    is("{\"c\":\"g-1\",\"kind\":\"direct\",\"name\":null,\"topic\":null,"
       "\"members\":2,\"role\":null,\"head\":7,\"floor\":1,\"n\":6,\"unread\":2,\"mentions\":1,"
       "\"read\":5,"
       "\"delivered\":6,\"since\":1,\"created\":0,"
       "\"history\":\"all\",\"with\":\"bob\",\"ttl\":null,\"pins\":[],\"muted_until\":null,"
       "\"pinned\":false,"
       "\"last\":{\"c\":\"g-1\",\"s\":7,\"mid\":\"781244489988583424\",\"ts\":1764100001234,"
       "\"from\":\"bob\",\"kind\":\"text\",\"body\":{\"text\":\"hi\"},\"n\":6}}");
}

Test(say, members_and_scopes)
{
    Loquat__Member member = LOQUAT__MEMBER__INIT;
    member.user = text("a.b@c");
    member.role = LOQUAT__ROLE__ROLE_ADMIN;
    member.joined = 5;
    member.read = 6;
    member.delivered = 7;
    say_member(&out, &member, true);
    is("{\"user\":\"a.b@c\",\"role\":\"admin\",\"joined\":5,\"read\":6,\"delivered\":7}");
    say_scope(&out, 0);
    is("\"\"");
    say_scope(&out, JWT_SCOPE_ADMIN);
    is("\"admin\"");
    say_scope(&out, JWT_SCOPE_JOBS);
    is("\"jobs\"");
    say_scope(&out, JWT_SCOPE_ADMIN | JWT_SCOPE_JOBS);
    is("\"admin jobs\"");
}

Test(say, what_was_written)
{
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    reply.seq = 44;
    reply.mid = 781094387712004099;
    reply.ts = 1764100020000;
    reply.n = 41;
    say_written(&out, &reply);
    is("{\"s\":44,\"mid\":\"781094387712004099\",\"ts\":1764100020000,\"n\":41,\"dup\":false}");
    reply.dup = true;
    reply.mid = 0; /* the first answer's record is no longer kept */
    say_written(&out, &reply);
    is("{\"s\":44,\"dup\":true}");
    reply = (Loquat__Reply)LOQUAT__REPLY__INIT;
    say_written(&out, &reply);
    is("{\"s\":null,\"dup\":false}");
}

/* Every error has a code of the protocol, a message, and a time where a retry makes sense. */
Test(say, errors)
{
    say_error(&out, ERR_CONFLICT, "a \"cid\"", 0);
    is("{\"code\":\"conflict\",\"msg\":\"a \\\"cid\\\"\",\"retry\":false}");
    say_error(&out, ERR_RATE_LIMITED, "slow", 1234);
    is("{\"code\":\"rate_limited\",\"msg\":\"slow\",\"retry\":true,\"after_ms\":1234}");
    say_error(&out, ERR_BUSY, NULL, 0);
    is("{\"code\":\"unavailable\",\"msg\":\"too much is under way; try again\",\"retry\":true,"
       "\"after_ms\":500}");
    static const int ALL[] = {
#define X(name, number, wire, http, retry) name,
        ERR_TABLE(X)
#undef X
    };
    for (size_t i = 0; i < sizeof ALL / sizeof *ALL; i++) {
        say_error(&out, ALL[i], "", 0);
        json_t *parsed = json_loadb(out.p, out.n, JSON_REJECT_DUPLICATES, NULL);
        cr_assert(ne(ptr, parsed, NULL));
        cr_assert(lt(sz, 0, strlen(json_string_value(json_object_get(parsed, "msg")))));
        cr_assert(eq(int, json_is_true(json_object_get(parsed, "retry")), err_retry(ALL[i])));
        cr_assert(eq(int, json_object_get(parsed, "after_ms") != NULL, err_retry(ALL[i])));
        json_decref(parsed);
        out.n = 0;
    }
}
