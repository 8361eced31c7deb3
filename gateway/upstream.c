#include "gateway/upstream.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/ids.h"
#include "store/base/log.h"
#include "store/base/wire.h"

enum { NO_SLOT = UINT32_MAX };

static uint64_t number_of(const struct upstream *up, uint32_t slot)
{
    return (uint64_t)up->slots[slot].turn << 32 | slot;
}

static uint32_t slot_take(struct upstream *up, enum upstream_kind kind, upstream_done done,
                          void *owner)
{
    uint32_t at = up->first_free;
    if (at != NO_SLOT) {
        up->first_free = up->slots[at].next;
    } else {
        if (up->slot_count == up->slot_cap) {
            up->slot_cap = up->slot_cap == 0 ? 256 : up->slot_cap * 2;
            up->slots = xrealloc(up->slots, up->slot_cap * sizeof *up->slots);
        }
        at = up->slot_count++;
        up->slots[at] = (struct upstream_slot){0};
    }
    up->slots[at].done = done;
    up->slots[at].owner = owner;
    up->slots[at].kind = (uint8_t)kind;
    up->slots[at].asked_us = clock_mono_us();
    up->calls++;
    return at;
}

static void slot_answer(struct upstream *up, uint32_t at, const Loquat__Reply *reply)
{
    struct upstream_slot *slot = &up->slots[at];
    upstream_done done = slot->done;
    void *owner = slot->owner;
    buf_close(&slot->wait);
    up->pages -= slot->page;
    slot->page = 0;
    slot->done = NULL;
    if (up->block_us == 0)
        up->block_us = clock_mono_us();
    metric_share_us(&up->took[slot->kind], (int64_t)(up->block_us - slot->asked_us));
    slot->turn++;
    slot->next = up->first_free;
    up->first_free = at;
    up->calls--;
    done(owner, reply); /* may take slots: `slot` is not valid after */
}

/* Sends what waits for its turn, as far as there is room for the answers. */
static void send_waiting(struct upstream *up)
{
    while (up->first_waiting != NO_SLOT && up->pages < UPSTREAM_PAGES_MAX) {
        struct upstream_slot *slot = &up->slots[up->first_waiting];
        up->first_waiting = slot->next;
        slot->page = slot->wait_page;
        up->pages += slot->page;
        link_send(&up->link, LINK_READ, buf_span(&slot->wait));
        buf_close(&slot->wait);
    }
}

/* ---- what comes ---- */

static void on_hello(struct upstream *up, struct span body)
{
    Loquat__Hello *hello =
        loquat__hello__unpack(&up->arena.allocator, body.n, (const uint8_t *)body.p);
    if (hello == NULL || hello->version < WIRE_VERSION_MIN || hello->partitions == 0 ||
        hello->partitions > PARTITIONS_MAX) {
        link_close(&up->link, ERR_VERSION);
        return;
    }
    up->version = wire_spoken_with(hello->version);
    up->partitions = hello->partitions;
    snprintf(up->node, sizeof up->node, "%s",
             hello->cluster[0] != '\0' ? hello->cluster : hello->node);
    up->ready = true;
    up->ops->on_ready(up->arg);
}

static bool on_reply(struct upstream *up, struct span body)
{
    Loquat__Reply *reply = reply_unpack(body, &up->arena);
    if (reply == NULL)
        return false;
    uint32_t at = (uint32_t)reply->id;
    if (at >= up->slot_count || up->slots[at].done == NULL || number_of(up, at) != reply->id)
        return false;
    slot_answer(up, at, reply);
    send_waiting(up);
    return true;
}

static bool on_tail(struct upstream *up, struct span body)
{
    Loquat__Tail *tail =
        loquat__tail__unpack(&up->arena.allocator, body.n, (const uint8_t *)body.p);
    up->credit_owed += body.n;
    if (tail == NULL)
        return false;
    up->ops->on_tail(up->arg, tail);
    return true;
}

static bool on_mark(struct upstream *up, struct span body)
{
    Loquat__MarkEvent *mark =
        loquat__mark_event__unpack(&up->arena.allocator, body.n, (const uint8_t *)body.p);
    up->credit_owed += body.n;
    if (mark == NULL)
        return false;
    up->ops->on_mark(up->arg, mark);
    return true;
}

static bool on_typing(struct upstream *up, struct span body)
{
    Loquat__Typing *typing =
        loquat__typing__unpack(&up->arena.allocator, body.n, (const uint8_t *)body.p);
    up->credit_owed += body.n;
    if (typing == NULL)
        return false;
    up->ops->on_typing(up->arg, typing);
    return true;
}

static bool on_presence(struct upstream *up, struct span body)
{
    Loquat__Presence *presence =
        loquat__presence__unpack(&up->arena.allocator, body.n, (const uint8_t *)body.p);
    if (presence == NULL)
        return false;
    up->ops->on_presence(up->arg, presence);
    return true;
}

static bool on_leads(struct upstream *up, struct span body)
{
    Loquat__Leads *leads =
        loquat__leads__unpack(&up->arena.allocator, body.n, (const uint8_t *)body.p);
    if (leads == NULL || !up->ready)
        return false;
    up->ops->on_leads(up->arg, leads);
    return true;
}

static void on_message(struct link *link, int type, struct span body)
{
    struct upstream *up = container_of(link, struct upstream, link);
    bool fine = true;
    switch (type) {
    case LINK_HELLO:
        on_hello(up, body);
        break;
    case LINK_REPLY:
        fine = on_reply(up, body);
        break;
    case LINK_TAIL:
        fine = on_tail(up, body);
        break;
    case LINK_MARK:
        fine = on_mark(up, body);
        break;
    case LINK_TYPING:
        fine = on_typing(up, body);
        break;
    case LINK_PRESENCE:
        fine = on_presence(up, body);
        break;
    case LINK_LEADS:
        fine = on_leads(up, body);
        break;
    default: /* of a newer node */
        break;
    }
    arena_reset(&up->arena);
    if (!fine)
        link_close(link, ERR_CORRUPT);
}

static void send_credit(struct upstream *up, uint64_t bytes)
{
    Loquat__Credit credit = LOQUAT__CREDIT__INIT;
    credit.bytes = bytes;
    char *room = link_send_begin(&up->link, LINK_CREDIT, loquat__credit__get_packed_size(&credit));
    if (room != NULL)
        loquat__credit__pack(&credit, (uint8_t *)room);
}

static void on_block_end(struct link *link)
{
    struct upstream *up = container_of(link, struct upstream, link);
    up->block_us = 0;
    if (up->credit_owed < UPSTREAM_CREDIT_STEP)
        return;
    send_credit(up, up->credit_owed);
    up->credit_owed = 0;
}

static void on_close(struct link *link, int err)
{
    struct upstream *up = container_of(link, struct upstream, link);
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    reply.err = ERR_CLOSED;
    reply.msg = (char *)(uintptr_t) "the store is not reached just now";
    up->open = up->ready = false;
    up->first_waiting = NO_SLOT;
    if (err != ERR_CLOSED)
        log_error("the link to the store ended", {"err", log_str(err_name(err))});
    for (uint32_t i = 0; i < up->slot_count; i++)
        if (up->slots[i].done != NULL)
            slot_answer(up, i, &reply);
    up->ops->on_closed(up->arg);
}

static const struct link_ops LINK_OPS = {
    .on_message = on_message, .on_block_end = on_block_end, .on_close = on_close};

/* ---- what goes ---- */

void upstream_init(struct upstream *up, const struct upstream_ops *ops, void *arg)
{
    *up = (struct upstream){.ops = ops, .arg = arg, .first_free = NO_SLOT};
    up->first_waiting = up->last_waiting = NO_SLOT;
    arena_init(&up->arena);
}

int upstream_open(struct upstream *up, uv_loop_t *loop, struct line line)
{
    ASSERT(!up->open && up->calls == 0);
    up->open = true;
    up->credit_owed = up->block_us = 0;
    int err = link_open(&up->link, loop, line, &LINK_OPS);
    if (err != 0)
        return err;
    Loquat__Hello hello = LOQUAT__HELLO__INIT;
    hello.version = WIRE_VERSION;
    hello.name = (char *)(uintptr_t) "gateway";
    char *room = link_send_begin(&up->link, LINK_HELLO, loquat__hello__get_packed_size(&hello));
    loquat__hello__pack(&hello, (uint8_t *)room);
    send_credit(up, UPSTREAM_CREDIT);
    return 0;
}

void upstream_close(struct upstream *up)
{
    if (up->open)
        link_close(&up->link, ERR_CLOSED);
}

void upstream_free(struct upstream *up)
{
    ASSERT(up->calls == 0);
    arena_close(&up->arena);
    buf_close(&up->command);
    buf_close(&up->write);
    free(up->slots);
}

static int may_ask(const struct upstream *up)
{
    if (!up->ready)
        return ERR_CLOSED;
    if (up->calls == UPSTREAM_CALLS_MAX) {
        bound_hit(BOUND_UPSTREAM_CALLS);
        return ERR_BUSY;
    }
    if (link_pending(&up->link) > UPSTREAM_PENDING_MAX) {
        bound_hit(BOUND_UPSTREAM_PENDING);
        return ERR_BUSY;
    }
    return 0;
}

int upstream_write_packed(struct upstream *up, uint32_t partition, struct span command,
                          upstream_done done, void *owner)
{
    int err = may_ask(up);
    if (err != 0)
        return err;
    up->write.n = 0;
    struct write_view write = {.partition = partition, .command = command};
    write.id = number_of(up, slot_take(up, UPSTREAM_WRITE, done, owner));
    write_pack(&write, &up->write);
    link_send(&up->link, LINK_WRITE, buf_span(&up->write)); /* if it closes, on_close answers */
    return 0;
}

int upstream_write(struct upstream *up, uint32_t partition, const Loquat__Command *command,
                   upstream_done done, void *owner)
{
    up->command.n = 0;
    command_pack(command, &up->command);
    return upstream_write_packed(up, partition, buf_span(&up->command), done, owner);
}

/* The number stands behind the rest: to protobuf the order says nothing. */
static void number_read(const struct upstream *up, uint32_t at, struct span read, struct buf *out)
{
    enum { NUMBER_TAG = 1 << 3 };
    buf_add_span(out, read);
    buf_add_byte(out, NUMBER_TAG);
    buf_add_varint(out, number_of(up, at));
}

static void wait_for_turn(struct upstream *up, uint32_t at, uint32_t page, struct span read)
{
    struct upstream_slot *slot = &up->slots[at];
    slot->wait_page = page;
    slot->next = NO_SLOT;
    number_read(up, at, read, &slot->wait);
    if (up->first_waiting == NO_SLOT)
        up->first_waiting = at;
    else
        up->slots[up->last_waiting].next = at;
    up->last_waiting = at;
}

enum upstream_kind upstream_kind_of(const Loquat__Read *read)
{
    bool feed = read->op == LOQUAT__READ_OP__READ_FEED && read->wait_ms == 0;
    return read->op == LOQUAT__READ_OP__READ_RANGE || feed ? UPSTREAM_PAGE : UPSTREAM_READ;
}

uint32_t upstream_page_of(const Loquat__Read *read)
{
    return read->bytes_max != 0 ? read->bytes_max : UPSTREAM_PAGE_BYTES;
}

int upstream_read_packed(struct upstream *up, enum upstream_kind kind, uint32_t page,
                         struct span read, upstream_done done, void *owner)
{
    int err = may_ask(up);
    if (err != 0)
        return err;
    uint32_t at = slot_take(up, kind, done, owner);
    if (kind == UPSTREAM_PAGE) {
        wait_for_turn(up, at, page, read);
        send_waiting(up);
        if (up->first_waiting != NO_SLOT)
            bound_hit(BOUND_UPSTREAM_PAGES);
    } else {
        up->write.n = 0;
        number_read(up, at, read, &up->write);
        link_send(&up->link, LINK_READ, buf_span(&up->write));
    }
    return 0;
}

int upstream_read(struct upstream *up, Loquat__Read *read, upstream_done done, void *owner)
{
    read->id = 0;
    up->command.n = 0;
    size_t size = loquat__read__get_packed_size(read);
    loquat__read__pack(read, (uint8_t *)buf_grow(&up->command, size));
    return upstream_read_packed(up, upstream_kind_of(read), upstream_page_of(read),
                                buf_span(&up->command), done, owner);
}

void upstream_typing(struct upstream *up, const Loquat__Typing *typing)
{
    if (up->version < WIRE_VERSION_CHAT)
        return;
    char *room = link_send_begin(&up->link, LINK_TYPING, loquat__typing__get_packed_size(typing));
    if (room != NULL)
        loquat__typing__pack(typing, (uint8_t *)room);
}

void upstream_watch(struct upstream *up, const Loquat__Watch *watch)
{
    if (up->version < WIRE_VERSION_CHAT)
        return;
    char *room = link_send_begin(&up->link, LINK_WATCH, loquat__watch__get_packed_size(watch));
    if (room != NULL)
        loquat__watch__pack(watch, (uint8_t *)room);
}

void upstream_sub(struct upstream *up, const Loquat__Sub *sub)
{
    char *room = link_send_begin(&up->link, LINK_SUB, loquat__sub__get_packed_size(sub));
    if (room != NULL)
        loquat__sub__pack(sub, (uint8_t *)room);
}

void upstream_unsub(struct upstream *up, const Loquat__Unsub *unsub)
{
    char *room = link_send_begin(&up->link, LINK_UNSUB, loquat__unsub__get_packed_size(unsub));
    if (room != NULL)
        loquat__unsub__pack(unsub, (uint8_t *)room);
}
