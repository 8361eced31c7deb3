#include "store/base/wire.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "store/base/clock.h"

enum { ROUNDS = 2000, TEXTS = 4, ITEMS = 40 };

static uint8_t noise[70000];
static char texts[TEXTS][40] = {"", "a", "anna", "dAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
static char *const lists[TEXTS] = {texts[1], texts[0], texts[3], texts[2]};

static void make_noise(void)
{
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)i;
}

TestSuite(wire, .init = make_noise);

/* Zero in half of the cases, otherwise of any length. */
static uint64_t some(void)
{
    uint64_t dice = random_u64();
    return (dice & 1) == 0 ? 0 : random_u64() >> (dice >> 1) % 64;
}

static uint32_t small(void)
{
    return (uint32_t)some();
}

static bool maybe(void)
{
    return random_u64() % 4 == 0;
}

static char *text(void)
{
    return texts[random_u64() % TEXTS];
}

static ProtobufCBinaryData bytes(void)
{
    size_t size = random_u64() % 3 == 0 ? 0 : random_u64() % 300;
    return (ProtobufCBinaryData){random_u64() % 200 == 0 ? sizeof noise : size, noise};
}

static struct buf by_protobuf(const ProtobufCMessage *message)
{
    struct buf out = {0};
    size_t size = protobuf_c_message_get_packed_size(message);
    protobuf_c_message_pack(message, (uint8_t *)buf_grow(&out, size));
    return out;
}

/* `packed` is what protobuf packs of `message`, behind what was there. */
static void check(struct buf *packed, const ProtobufCMessage *message)
{
    struct buf wanted = by_protobuf(message);
    cr_assert(eq(sz, packed->n, wanted.n + 1), "%s", message->descriptor->name);
    cr_assert(eq(chr, packed->p[0], '!'));
    cr_assert(span_eq(span_of(packed->p + 1, packed->n - 1), buf_span(&wanted)));
    buf_close(&wanted);
}

static Loquat__Command some_command(bool all, char **mentions, uint64_t *done)
{
    Loquat__Command c = LOQUAT__COMMAND__INIT;
    c.op = small();
    c.user = text();
    c.conv = text();
    c.cid = text();
    c.kind = small();
    c.body = bytes();
    c.reply = some();
    if (!all)
        return c;
    c.admin = maybe();
    c.ts = some();
    c.xkind = text();
    c.thread = some();
    c.n_mentions = random_u64() % TEXTS;
    c.mentions = mentions;
    c.mention_all = maybe();
    c.ttl_s = some();
    c.target = some();
    c.conv_kind = small();
    c.with = text();
    c.name = text();
    c.topic = text();
    c.n_members = random_u64() % TEXTS;
    c.members = mentions;
    c.history_joined = maybe();
    c.who = text();
    c.set = small();
    c.role = small();
    c.read = some();
    c.delivered = some();
    c.floor = some();
    c.n_done = random_u64() % 5;
    c.done = done;
    c.member_max = some();
    c.emoji = text();
    c.on = maybe();
    c.fields = small();
    c.announce = maybe();
    c.muted_until = some();
    c.pinned = maybe();
    c.hidden = maybe();
    c.draft = text();
    c.token = text();
    c.expires_s = some();
    c.uses = some();
    c.stamp = some();
    c.consumer = text();
    c.worker = text();
    c.ttl_ms = some();
    c.step = small();
    c.offset = some();
    c.generation = some();
    c.was = some();
    c.lang = text();
    c.search_off = maybe();
    return c;
}

/* Unpacked and packed by protobuf again it is the same. */
static void check_command(struct span packed)
{
    struct arena arena;
    arena_init(&arena);
    Loquat__Command *read = command_unpack(packed, &arena);
    cr_assert(read != NULL);
    struct buf again = by_protobuf(&read->base);
    cr_assert(span_eq(buf_span(&again), packed));
    buf_close(&again);
    arena_close(&arena);
}

Test(wire, commands_as_protobuf_packs_them)
{
    cr_assert(eq(int, loquat__command__descriptor.n_fields, 52), "command_pack knows so many");
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t done[] = {some(), some(), some(), some()};
        char *mentions[TEXTS];
        memcpy(mentions, lists, sizeof mentions);
        Loquat__UserEffect effect = LOQUAT__USER_EFFECT__INIT, *effects[] = {&effect, &effect};
        effect.user = text();
        effect.stamp = some();
        struct buf packed = {0};
        Loquat__Command command = some_command(maybe(), mentions, done);
        command.n_effects = maybe() ? 2 : 0;
        command.effects = effects;
        Loquat__Webhook webhook = LOQUAT__WEBHOOK__INIT;
        webhook.url = text();
        command.webhook = maybe() ? &webhook : NULL;
        buf_add_byte(&packed, '!');
        command_pack(&command, &packed);
        check(&packed, &command.base);
        check_command(span_of(packed.p + 1, packed.n - 1));
        buf_close(&packed);
    }
}

Test(wire, records_as_protobuf_packs_them)
{
    cr_assert(eq(int, loquat__record__descriptor.n_fields, 18), "record_pack knows so many");
    for (int round = 0; round < ROUNDS; round++) {
        char *mentions[TEXTS];
        memcpy(mentions, lists, sizeof mentions);
        Loquat__Record r = LOQUAT__RECORD__INIT;
        struct buf packed = {0};
        r.ts = some();
        r.mid_off = (int64_t)(maybe() ? -some() : some());
        r.gap = some();
        r.kind = small();
        r.xkind = text();
        r.from = text();
        r.body = bytes();
        r.cid = text();
        r.reply = some();
        r.thread = some();
        r.n_mentions = random_u64() % TEXTS;
        r.mentions = mentions;
        r.mention_all = maybe();
        r.expires = some();
        r.target = some();
        r.erased = maybe();
        r.stripped = maybe();
        r.emoji = text();
        r.on = maybe();
        buf_add_byte(&packed, '!');
        record_pack(&r, &packed);
        check(&packed, &r.base);
        buf_close(&packed);
    }
}

static Loquat__Reaction reaction = LOQUAT__REACTION__INIT, *reactions[] = {&reaction, &reaction};

static void some_items(Loquat__Item *items, Loquat__Item **each)
{
    reaction.emoji = text();
    reaction.n = some();
    reaction.me = maybe();
    for (int i = 0; i < ITEMS; i++) {
        loquat__item__init(&items[i]);
        each[i] = &items[i];
        items[i].seq = some();
        items[i].last = some();
        items[i].hole = small();
        items[i].edited = some();
        items[i].replies = some();
        items[i].record = bytes();
        items[i].body = bytes();
        items[i].pinned = maybe() ? some() : 0;
        items[i].n_reactions = maybe() ? 2 : 0;
        items[i].reactions = reactions;
    }
}

static void check_reply(struct span packed)
{
    struct arena arena;
    arena_init(&arena);
    Loquat__Reply *read = reply_unpack(packed, &arena);
    cr_assert(read != NULL);
    struct buf again = by_protobuf(&read->base);
    cr_assert(span_eq(buf_span(&again), packed));
    buf_close(&again);
    arena_close(&arena);
}

Test(wire, replies_as_protobuf_packs_them)
{
    cr_assert(eq(int, loquat__reply__descriptor.n_fields, 30), "reply_pack knows so many");
    cr_assert(eq(int, loquat__item__descriptor.n_fields, 9), "and of an item");
    for (int round = 0; round < ROUNDS / 4; round++) {
        Loquat__Item items[ITEMS], *each[ITEMS];
        Loquat__ConvInfo info = LOQUAT__CONV_INFO__INIT, *infos[] = {&info, &info};
        Loquat__Member member = LOQUAT__MEMBER__INIT, *members[] = {&member};
        Loquat__UserConv row = LOQUAT__USER_CONV__INIT, *rows[] = {&row};
        row.draft = text();
        char *ids[TEXTS];
        memcpy(ids, lists, sizeof ids);
        Loquat__Reply r = LOQUAT__REPLY__INIT;
        struct buf packed = {0};
        some_items(items, each);
        info.conv = text();
        member.read = some();
        r.id = some();
        r.err = maybe() ? (int32_t)some() : 0;
        r.msg = maybe() ? text() : texts[0];
        r.after_ms = maybe() ? some() : 0;
        r.seq = some();
        r.mid = some();
        r.ts = some();
        r.n = some();
        r.dup = maybe();
        r.items = each;
        r.n_items = maybe() ? 0 : random_u64() % ITEMS;
        r.next = some();
        r.head = some();
        r.floor = some();
        Loquat__FeedItem fed = LOQUAT__FEED_ITEM__INIT, *feed[] = {&fed, &fed};
        Loquat__Consumer consumer = LOQUAT__CONSUMER__INIT, *consumers[] = {&consumer};
        Loquat__Cursor cursor = LOQUAT__CURSOR__INIT;
        fed.offset = some();
        fed.item = &items[0];
        consumer.name = text();
        cursor.offset = some();
        r.feed = feed;
        r.n_feed = maybe() ? 2 : 0;
        r.consumers = consumers;
        r.n_consumers = maybe();
        r.cursor = maybe() ? &cursor : NULL;
        r.lag = maybe() ? some() : 0;
        r.lag_ms = maybe() ? some() : 0;
        Loquat__Hit hit = LOQUAT__HIT__INIT, *hits[] = {&hit, &hit};
        uint32_t spans[] = {small(), small()};
        hit.conv = text();
        hit.item = &items[0];
        hit.mid = some();
        hit.spans = spans;
        hit.n_spans = 2;
        r.hits = hits;
        r.n_hits = maybe() ? 2 : 0;
        r.behind = maybe() ? some() : 0;
        r.partial = maybe();
        r.convs = infos;
        r.n_convs = maybe() ? 2 : 0;
        r.members = members;
        r.n_members = maybe();
        r.ids = ids;
        r.n_ids = maybe() ? random_u64() % TEXTS : 0;
        r.after = maybe() ? text() : texts[0];
        r.rows = rows;
        r.n_rows = maybe();
        r.stat = maybe() ? bytes() : (ProtobufCBinaryData){0};
        buf_add_byte(&packed, '!');
        reply_pack(&r, &packed);
        check(&packed, &r.base);
        check_reply(span_of(packed.p + 1, packed.n - 1));
        buf_close(&packed);
    }
}

/* Records of feeds have a way of their own in and out; what is rare in them goes by protobuf. */
Test(wire, pages_of_feeds_as_protobuf_packs_them)
{
    cr_assert(eq(int, loquat__feed_item__descriptor.n_fields, 3), "add_feed knows so many");
    for (int round = 0; round < ROUNDS / 4; round++) {
        Loquat__Item items[ITEMS], *each[ITEMS];
        Loquat__FeedItem fed[ITEMS], *feed[ITEMS];
        Loquat__Reply r = LOQUAT__REPLY__INIT;
        struct buf packed = {0};
        bool plain = maybe();
        some_items(items, each);
        char *conv = text();
        for (int i = 0; i < ITEMS; i++) {
            loquat__feed_item__init(&fed[i]);
            feed[i] = &fed[i];
            conv = maybe() ? conv : maybe() ? text() : texts[0];
            fed[i].conv = conv;
            fed[i].offset = some();
            fed[i].item = plain || random_u64() % 8 > 0 ? each[i] : NULL;
            if (!plain)
                continue;
            items[i].pinned = 0;
            items[i].n_reactions = 0;
        }
        r.id = some();
        r.next = some();
        r.head = some();
        r.floor = some();
        r.feed = feed;
        r.n_feed = random_u64() % (ITEMS + 1);
        buf_add_byte(&packed, '!');
        reply_pack(&r, &packed);
        check(&packed, &r.base);
        check_reply(span_of(packed.p + 1, packed.n - 1));
        buf_close(&packed);
    }
}

Test(wire, writes_as_protobuf_packs_them)
{
    cr_assert(eq(int, loquat__write__descriptor.n_fields, 3), "write_pack knows so many");
    for (int round = 0; round < ROUNDS; round++) {
        Loquat__Write message = LOQUAT__WRITE__INIT;
        message.id = some();
        message.partition = small();
        message.command = bytes();
        struct write_view write = {message.id, message.partition,
                                   span_of((char *)message.command.data, message.command.len)};
        struct write_view read;
        struct buf packed = {0};
        buf_add_byte(&packed, '!');
        write_pack(&write, &packed);
        check(&packed, &message.base);
        cr_assert(write_unpack(span_of(packed.p + 1, packed.n - 1), &read));
        cr_assert(eq(u64, read.id, write.id));
        cr_assert(eq(u32, read.partition, write.partition));
        cr_assert(span_eq(read.command, write.command));
        buf_close(&packed);
    }
}

/* What is not understood is left out where protobuf does, and refused where it does. */
Test(wire, other_bytes)
{
    struct write_view write;
    cr_assert(write_unpack(span_str("\x08\x01\x22\x01x"), &write)); /* a field 4 */
    cr_assert(eq(u64, write.id, 1));
    cr_assert(eq(int, write_unpack(span_str("\x08"), &write), false), "ends early");
    cr_assert(eq(int, write_unpack(span_str("\x0a\x01x"), &write), false), "an id that is a text");
    cr_assert(eq(int, write_unpack(span_str("\x10\xff\xff\xff\xff\x7f"), &write), false),
              "too large a partition");
    cr_assert(eq(int, write_unpack(span_of("\x02\x00", 2), &write), false), "a field 0");
    struct arena arena;
    arena_init(&arena);
    Loquat__Command *command = command_unpack(span_str("\x08\x02\xfa\x07\x01x"), &arena);
    cr_assert(command != NULL, "a field 127");
    cr_assert(eq(u32, command->op, 2));
    struct buf again = {0};
    command_pack(command, &again);
    cr_assert(span_eq(buf_span(&again), span_str("\x08\x02\xfa\x07\x01x")), "and stays");
    buf_close(&again);
    cr_assert(command_unpack(span_str("\x08"), &arena) == NULL);
    cr_assert(command_unpack(span_str("\x12\x05x"), &arena) == NULL);
    cr_assert(reply_unpack(span_str("\x52\x02\x08"), &arena) == NULL, "an item that ends early");
    cr_assert(reply_unpack(span_of("\x52\x00", 2), &arena)->n_items == 1, "an empty item");
    static const char FED[] = "\xba\x01\x02\x1a\x00"; /* a record of a feed: an item, empty */
    cr_assert(reply_unpack(span_of(FED, 5), &arena)->feed[0]->item != NULL);
    cr_assert(reply_unpack(span_of("\xba\x01\x02\x1a\x01", 5), &arena) == NULL, "it ends early");
    arena_close(&arena);
}
