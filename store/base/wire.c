#include "store/base/wire.h"

#include "store/base/check.h"
#include "store/base/field.h"

/* ---- packing: fields in the order of their numbers, those that are unset left out ---- */

enum { FIELD_HEAD_MAX = 2 + VARINT_MAX }; /* tag and size, or tag and number */

static char *put_head(char *p, uint32_t field, uint32_t type)
{
    return p + put_varint(p, field << 3 | type);
}

static void add_number(struct buf *out, uint32_t field, uint64_t v)
{
    if (v == 0)
        return;
    buf_reserve(out, FIELD_HEAD_MAX);
    char *p = put_head(out->p + out->n, field, WIRE_VARINT);
    out->n = (size_t)(p + put_varint(p, v) - out->p);
}

static void add_signed(struct buf *out, uint32_t field, int64_t v)
{
    uint64_t twice = (uint64_t)v << 1; /* zigzag: small, whichever sign it has */
    add_number(out, field, v < 0 ? ~twice : twice);
}

/* Also where it is empty: a member of a list. */
static void add_each(struct buf *out, uint32_t field, const void *bytes, size_t n)
{
    buf_reserve(out, FIELD_HEAD_MAX + n);
    char *p = put_head(out->p + out->n, field, WIRE_BYTES);
    p += put_varint(p, n);
    if (n > 0)
        memcpy(p, bytes, n);
    out->n = (size_t)(p + n - out->p);
}

static void add_bytes(struct buf *out, uint32_t field, ProtobufCBinaryData v)
{
    if (v.len > 0)
        add_each(out, field, v.data, v.len);
}

static void add_text(struct buf *out, uint32_t field, const char *text)
{
    if (text[0] != 0)
        add_each(out, field, text, strlen(text));
}

static void add_texts(struct buf *out, uint32_t field, char *const *texts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        add_each(out, field, texts[i], strlen(texts[i]));
}

static void add_numbers(struct buf *out, uint32_t field, const uint64_t *v, size_t count)
{
    size_t size = 0;
    char room[VARINT_MAX];
    for (size_t i = 0; i < count; i++)
        size += put_varint(room, v[i]);
    if (count == 0)
        return;
    buf_reserve(out, FIELD_HEAD_MAX + size);
    char *p = put_head(out->p + out->n, field, WIRE_BYTES);
    p += put_varint(p, size);
    for (size_t i = 0; i < count; i++)
        p += put_varint(p, v[i]);
    out->n = (size_t)(p - out->p);
}

/* One that is not so frequent: by protobuf itself. */
static void add_message(struct buf *out, uint32_t field, const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    buf_reserve(out, FIELD_HEAD_MAX + size);
    char *p = put_head(out->p + out->n, field, WIRE_BYTES);
    p += put_varint(p, size);
    protobuf_c_message_pack(message, (uint8_t *)p);
    out->n = (size_t)(p + size - out->p);
}

/* Fields of a newer version, which stay: only protobuf knows how. */
static bool pack_unknown(const ProtobufCMessage *message, struct buf *out)
{
    if (message->n_unknown_fields == 0)
        return false;
    size_t size = protobuf_c_message_get_packed_size(message);
    protobuf_c_message_pack(message, (uint8_t *)buf_grow(out, size));
    return true;
}

void command_pack(const Loquat__Command *command, struct buf *out)
{
    if (pack_unknown(&command->base, out))
        return;
    add_number(out, 1, command->op);
    add_text(out, 2, command->user);
    add_number(out, 3, command->admin != 0);
    add_text(out, 4, command->conv);
    add_text(out, 5, command->cid);
    add_number(out, 6, command->ts);
    add_number(out, 7, command->kind);
    add_text(out, 8, command->xkind);
    add_bytes(out, 9, command->body);
    add_number(out, 10, command->reply);
    add_number(out, 11, command->thread);
    add_texts(out, 12, command->mentions, command->n_mentions);
    add_number(out, 13, command->mention_all != 0);
    add_number(out, 14, command->ttl_s);
    add_number(out, 15, command->target);
    add_number(out, 16, command->conv_kind);
    add_text(out, 17, command->with);
    add_text(out, 18, command->name);
    add_text(out, 19, command->topic);
    add_texts(out, 20, command->members, command->n_members);
    add_number(out, 21, command->history_joined != 0);
    add_text(out, 22, command->who);
    add_number(out, 23, command->set);
    add_number(out, 24, command->role);
    add_number(out, 25, command->read);
    add_number(out, 26, command->delivered);
    add_number(out, 27, command->floor);
    for (size_t i = 0; i < command->n_effects; i++)
        add_message(out, 28, &command->effects[i]->base);
    add_numbers(out, 29, command->done, command->n_done);
    add_number(out, 30, command->member_max);
    add_text(out, 31, command->emoji);
    add_number(out, 32, command->on != 0);
    add_number(out, 33, command->fields);
    add_number(out, 34, command->announce != 0);
    add_number(out, 35, command->muted_until);
    add_number(out, 36, command->pinned != 0);
    add_number(out, 37, command->hidden != 0);
    add_text(out, 38, command->draft);
    add_text(out, 39, command->token);
    add_number(out, 40, command->expires_s);
    add_number(out, 41, command->uses);
    add_number(out, 42, command->stamp);
    add_text(out, 43, command->consumer);
    add_text(out, 44, command->worker);
    add_number(out, 45, command->ttl_ms);
    add_number(out, 46, command->step);
    add_number(out, 47, command->offset);
    add_number(out, 48, command->generation);
    if (command->webhook != NULL)
        add_message(out, 49, &command->webhook->base);
    add_number(out, 50, command->was);
    add_text(out, 51, command->lang);
    add_number(out, 52, command->search_off != 0);
}

void record_pack(const Loquat__Record *record, struct buf *out)
{
    if (pack_unknown(&record->base, out))
        return;
    add_number(out, 1, record->ts);
    add_signed(out, 2, record->mid_off);
    add_number(out, 3, record->gap);
    add_number(out, 4, record->kind);
    add_text(out, 5, record->xkind);
    add_text(out, 6, record->from);
    add_bytes(out, 7, record->body);
    add_text(out, 8, record->cid);
    add_number(out, 9, record->reply);
    add_number(out, 10, record->thread);
    add_texts(out, 11, record->mentions, record->n_mentions);
    add_number(out, 12, record->mention_all != 0);
    add_number(out, 13, record->expires);
    add_number(out, 14, record->target);
    add_number(out, 15, record->erased != 0);
    add_number(out, 16, record->stripped != 0);
    add_text(out, 17, record->emoji);
    add_number(out, 18, record->on != 0);
}

static size_t varint_size(uint64_t v)
{
    size_t n = 1;
    for (; v >= 0x80; v >>= 7)
        n++;
    return n;
}

static size_t number_size(uint64_t v)
{
    return v != 0 ? 1 + varint_size(v) : 0;
}

static size_t bytes_size(ProtobufCBinaryData bytes)
{
    return bytes.len > 0 ? 1 + varint_size(bytes.len) + bytes.len : 0;
}

/* Without what few have. */
static bool item_plain(const Loquat__Item *item)
{
    return item->base.n_unknown_fields == 0 && item->n_reactions == 0 && item->pinned == 0;
}

static size_t item_size(const Loquat__Item *item)
{
    return number_size(item->seq) + bytes_size(item->record) + number_size(item->last) +
           number_size(item->hole) + number_size(item->edited) + bytes_size(item->body) +
           number_size(item->replies);
}

static void add_item(struct buf *out, uint32_t field, const Loquat__Item *item)
{
    if (!item_plain(item)) {
        add_message(out, field, &item->base);
        return;
    }
    size_t size = item_size(item);
    buf_reserve(out, FIELD_HEAD_MAX + size);
    char *p = put_head(out->p + out->n, field, WIRE_BYTES);
    out->n = (size_t)(p + put_varint(p, size) - out->p);
    add_number(out, 1, item->seq);
    add_bytes(out, 2, item->record);
    add_number(out, 3, item->last);
    add_number(out, 4, item->hole);
    add_number(out, 5, item->edited);
    add_bytes(out, 6, item->body);
    add_number(out, 7, item->replies);
}

static void add_feed(struct buf *out, uint32_t field, const Loquat__FeedItem *feed)
{
    if (feed->base.n_unknown_fields > 0 || feed->item == NULL || !item_plain(feed->item)) {
        add_message(out, field, &feed->base);
        return;
    }
    size_t conv = strlen(feed->conv), item = item_size(feed->item);
    size_t size = number_size(feed->offset) + (conv > 0 ? 1 + varint_size(conv) + conv : 0) + 1 +
                  varint_size(item) + item;
    buf_reserve(out, FIELD_HEAD_MAX + size);
    char *p = put_head(out->p + out->n, field, WIRE_BYTES);
    out->n = (size_t)(p + put_varint(p, size) - out->p);
    add_number(out, 1, feed->offset);
    add_text(out, 2, feed->conv);
    add_item(out, 3, feed->item);
}

void reply_pack(const Loquat__Reply *reply, struct buf *out)
{
    if (pack_unknown(&reply->base, out))
        return;
    add_number(out, 1, reply->id);
    add_signed(out, 2, reply->err);
    add_text(out, 3, reply->msg);
    add_number(out, 4, reply->after_ms);
    add_number(out, 5, reply->seq);
    add_number(out, 6, reply->mid);
    add_number(out, 7, reply->ts);
    add_number(out, 8, reply->n);
    add_number(out, 9, reply->dup != 0);
    for (size_t i = 0; i < reply->n_items; i++)
        add_item(out, 10, reply->items[i]);
    add_number(out, 11, reply->next);
    add_number(out, 12, reply->head);
    add_number(out, 13, reply->floor);
    for (size_t i = 0; i < reply->n_convs; i++)
        add_message(out, 14, &reply->convs[i]->base);
    for (size_t i = 0; i < reply->n_members; i++)
        add_message(out, 15, &reply->members[i]->base);
    add_texts(out, 16, reply->ids, reply->n_ids);
    add_text(out, 17, reply->after);
    add_bytes(out, 18, reply->stat);
    for (size_t i = 0; i < reply->n_rows; i++)
        add_message(out, 19, &reply->rows[i]->base);
    if (reply->settings != NULL)
        add_message(out, 20, &reply->settings->base);
    for (size_t i = 0; i < reply->n_invites; i++)
        add_message(out, 21, &reply->invites[i]->base);
    for (size_t i = 0; i < reply->n_threads; i++)
        add_message(out, 22, &reply->threads[i]->base);
    for (size_t i = 0; i < reply->n_feed; i++)
        add_feed(out, 23, reply->feed[i]);
    for (size_t i = 0; i < reply->n_consumers; i++)
        add_message(out, 24, &reply->consumers[i]->base);
    if (reply->cursor != NULL)
        add_message(out, 25, &reply->cursor->base);
    add_number(out, 26, reply->lag);
    add_number(out, 27, reply->lag_ms);
    for (size_t i = 0; i < reply->n_hits; i++)
        add_message(out, 28, &reply->hits[i]->base);
    add_number(out, 29, reply->behind);
    add_number(out, 30, reply->partial != 0);
}

void write_pack(const struct write_view *write, struct buf *out)
{
    add_number(out, 1, write->id);
    add_number(out, 2, write->partition);
    if (write->command.n > 0)
        add_each(out, 3, write->command.p, write->command.n);
}

/* ---- unpacking: what is there nearly always; anything else is left to protobuf ---- */

enum { NUMBER = WIRE_VARINT, BYTES = WIRE_BYTES };
#define FIELD(number, type) ((number) << 3 | (type))

static char *text_of(struct arena *arena, struct span bytes)
{
    return arena_copy(arena, bytes.p, bytes.n);
}

static ProtobufCBinaryData bytes_of(struct span bytes)
{
    return (ProtobufCBinaryData){bytes.n, (uint8_t *)(uintptr_t)bytes.p};
}

static bool take_u32(uint32_t *out, uint64_t number)
{
    *out = (uint32_t)number;
    return number <= UINT32_MAX;
}

static bool take_command(Loquat__Command *command, struct arena *arena, uint64_t tag,
                         struct span bytes, uint64_t number)
{
    switch (tag) {
    case FIELD(1, NUMBER):
        return take_u32(&command->op, number);
    case FIELD(2, BYTES):
        command->user = text_of(arena, bytes);
        return true;
    case FIELD(4, BYTES):
        command->conv = text_of(arena, bytes);
        return true;
    case FIELD(5, BYTES):
        command->cid = text_of(arena, bytes);
        return true;
    case FIELD(7, NUMBER):
        return take_u32(&command->kind, number);
    case FIELD(9, BYTES):
        command->body = bytes_of(bytes);
        return true;
    case FIELD(10, NUMBER):
        command->reply = number;
        return true;
    default:
        return false;
    }
}

Loquat__Command *command_unpack(struct span bytes, struct arena *arena)
{
    Loquat__Command *command = arena_alloc(arena, sizeof *command);
    loquat__command__init(command);
    struct span rest = bytes, value = {0};
    uint64_t tag = 0, number = 0;
    while (rest.n > 0)
        if (!field_next(&rest, &tag, &value, &number) ||
            !take_command(command, arena, tag, value, number))
            return loquat__command__unpack(&arena->allocator, bytes.n, (const uint8_t *)bytes.p);
    return command;
}

static bool take_item(Loquat__Item *item, struct span rest)
{
    struct span bytes = {0};
    uint64_t tag = 0, number = 0;
    while (rest.n > 0) {
        if (!field_next(&rest, &tag, &bytes, &number))
            return false;
        if (tag == FIELD(1, NUMBER))
            item->seq = number;
        else if (tag == FIELD(2, BYTES))
            item->record = bytes_of(bytes);
        else if (tag == FIELD(3, NUMBER))
            item->last = number;
        else if (tag == FIELD(5, NUMBER))
            item->edited = number;
        else if (tag == FIELD(6, BYTES))
            item->body = bytes_of(bytes);
        else if (tag == FIELD(7, NUMBER))
            item->replies = number;
        else if (tag != FIELD(4, NUMBER) || !take_u32(&item->hole, number))
            return false;
    }
    return true;
}

static bool take_reply(Loquat__Reply *reply, uint64_t tag, uint64_t number)
{
    switch (tag) {
    case FIELD(1, NUMBER):
        reply->id = number;
        return true;
    case FIELD(5, NUMBER):
        reply->seq = number;
        return true;
    case FIELD(6, NUMBER):
        reply->mid = number;
        return true;
    case FIELD(7, NUMBER):
        reply->ts = number;
        return true;
    case FIELD(8, NUMBER):
        reply->n = number;
        return true;
    case FIELD(10, BYTES):
        reply->n_items++;
        return true;
    case FIELD(11, NUMBER):
        reply->next = number;
        return true;
    case FIELD(12, NUMBER):
        reply->head = number;
        return true;
    case FIELD(13, NUMBER):
        reply->floor = number;
        return true;
    case FIELD(23, BYTES):
        reply->n_feed++;
        return true;
    default:
        return false;
    }
}

static bool take_feed_item(struct arena *arena, Loquat__FeedItem *feed, Loquat__Item *item,
                           const char *conv, struct span rest)
{
    struct span bytes = {0};
    uint64_t tag = 0, number = 0;
    while (rest.n > 0) {
        if (!field_next(&rest, &tag, &bytes, &number))
            return false;
        if (tag == FIELD(1, NUMBER)) {
            feed->offset = number;
        } else if (tag == FIELD(2, BYTES)) { /* often that of the one before */
            bool same = strlen(conv) == bytes.n && memcmp(conv, bytes.p, bytes.n) == 0;
            feed->conv = same ? (char *)(uintptr_t)conv : text_of(arena, bytes);
        } else if (tag == FIELD(3, BYTES)) {
            feed->item = item;
            if (!take_item(item, bytes))
                return false;
        } else {
            return false;
        }
    }
    return true;
}

/* Those of a feed, which have been counted. */
static bool take_feed(Loquat__Reply *reply, struct arena *arena, struct span rest)
{
    size_t count = reply->n_feed, n = 0;
    struct room {
        Loquat__FeedItem feed;
        Loquat__Item item;
    } *room = arena_alloc(arena, count * sizeof *room);
    reply->feed = arena_alloc(arena, count * sizeof *reply->feed);
    struct span bytes = {0};
    uint64_t tag = 0, number = 0;
    while (field_next(&rest, &tag, &bytes, &number)) {
        if (tag != FIELD(23, BYTES))
            continue;
        room[n].feed = (Loquat__FeedItem)LOQUAT__FEED_ITEM__INIT;
        room[n].item = (Loquat__Item)LOQUAT__ITEM__INIT;
        if (!take_feed_item(arena, &room[n].feed, &room[n].item, n > 0 ? room[n - 1].feed.conv : "",
                            bytes))
            return false;
        reply->feed[n] = &room[n].feed;
        n++;
    }
    ASSERT(n == count);
    return true;
}

/* The items, which have been counted. */
static bool take_items(Loquat__Reply *reply, struct arena *arena, struct span rest)
{
    size_t count = reply->n_items, n = 0;
    Loquat__Item *items = arena_alloc(arena, count * sizeof *items);
    reply->items = arena_alloc(arena, count * sizeof *reply->items);
    struct span bytes = {0};
    uint64_t tag = 0, number = 0;
    while (field_next(&rest, &tag, &bytes, &number)) {
        if (tag != FIELD(10, BYTES))
            continue;
        items[n] = (Loquat__Item)LOQUAT__ITEM__INIT;
        if (!take_item(&items[n], bytes))
            return false;
        reply->items[n] = &items[n];
        n++;
    }
    ASSERT(n == count);
    return true;
}

Loquat__Reply *reply_unpack(struct span bytes, struct arena *arena)
{
    Loquat__Reply *reply = arena_alloc(arena, sizeof *reply);
    loquat__reply__init(reply);
    struct span rest = bytes, value = {0};
    uint64_t tag = 0, number = 0;
    bool known = true;
    while (known && rest.n > 0)
        known = field_next(&rest, &tag, &value, &number) && take_reply(reply, tag, number);
    if (known && (reply->n_items == 0 || take_items(reply, arena, bytes)) &&
        (reply->n_feed == 0 || take_feed(reply, arena, bytes)))
        return reply;
    return loquat__reply__unpack(&arena->allocator, bytes.n, (const uint8_t *)bytes.p);
}

bool write_unpack(struct span bytes, struct write_view *write)
{
    *write = (struct write_view){0};
    uint64_t tag = 0, number = 0;
    while (bytes.n > 0) {
        struct span value = {0};
        if (!field_next(&bytes, &tag, &value, &number))
            return false;
        if (tag == FIELD(1, NUMBER))
            write->id = number;
        else if (tag == FIELD(3, BYTES))
            write->command = value;
        else if (tag == FIELD(2, NUMBER) && number <= UINT32_MAX)
            write->partition = (uint32_t)number;
        else if (tag >> 3 <= 3)
            return false;
    }
    return true;
}
