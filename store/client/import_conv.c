#include "store/client/import_conv.h"

#include <stdlib.h>
#include <xxhash.h>

#include "store/base/check.h"
#include "store/base/err.h"

struct import_conv *import_conv_new(void *owner)
{
    struct import_conv *conv = xcalloc(1, sizeof *conv);
    conv->owner = owner;
    conv->again = SIZE_MAX;
    map_init(&conv->writer_map);
    return conv;
}

void import_conv_free(struct import_conv *conv)
{
    buf_close(&conv->bytes);
    buf_close(&conv->users);
    buf_close(&conv->head);
    map_close(&conv->writer_map);
    free(conv->lines);
    free(conv->writers);
    free(conv);
}

size_t import_conv_size(const struct import_conv *conv)
{
    return conv->bytes.cap + conv->users.cap + conv->cap * sizeof *conv->lines;
}

/* ---- loading ---- */

struct span import_conv_name(const struct import_conv *conv)
{
    return span_of(conv->bytes.p, conv->name.n);
}

struct map_key import_key(struct span name)
{
    XXH128_hash_t hash = XXH3_128bits(name.p, name.n);
    return (struct map_key){hash.high64, hash.low64};
}

static void add_writer(struct import_conv *conv, const struct import_line *line)
{
    struct span user = span_str(line->user);
    bool fresh;
    map_put(&conv->writer_map, import_key(user), &fresh);
    if (!fresh)
        return;
    if (conv->writer_count == conv->writer_cap) {
        conv->writer_cap = conv->writer_cap > 0 ? conv->writer_cap * 2 : 64;
        conv->writers = xrealloc(conv->writers, conv->writer_cap * sizeof *conv->writers);
    }
    conv->writers[conv->writer_count++] =
        (struct import_user){(uint32_t)conv->users.n, (uint32_t)user.n, conv->count};
    buf_add_span(&conv->users, user);
}

int import_conv_add(struct import_conv *conv, struct json *json, struct span text, bool keep,
                    const char **why)
{
    struct import_line line;
    struct buf more = {0};
    ASSERT(conv->state == IMPORT_LOADING);
    int err = import_line_parse(json, text, conv->count, &line, keep ? &more : NULL, why);
    if (err == 0 && conv->count > 0 && !span_eq(line.conv, import_conv_name(conv)))
        err = ERR_CONFLICT;
    if (err == 0 && conv->bytes.n + (size_t)IMPORT_LINE_MAX * 2 > IMPORT_CONV_BYTES_MAX) {
        *why = "the conversation is too large to hold in memory";
        err = ERR_TOO_LARGE;
    }
    if (err == 0) {
        if (conv->count == 0) {
            conv->name.n = line.conv.n;
            buf_add_span(&conv->bytes, line.conv);
        }
        if (conv->count == conv->cap) {
            conv->cap = conv->cap > 0 ? conv->cap * 2 : 64;
            conv->lines = xrealloc(conv->lines, conv->cap * sizeof *conv->lines);
        }
        add_writer(conv, &line);
        uint32_t at = (uint32_t)conv->bytes.n;
        import_line_encode(&line, conv->count, buf_span(&more), &conv->bytes);
        conv->lines[conv->count++] = (struct import_slot){.conv = conv,
                                                          .at = at,
                                                          .size = (uint32_t)(conv->bytes.n - at),
                                                          .reply_to = (int32_t)line.reply_to};
    }
    buf_close(&more);
    return err;
}

/* ---- opening ---- */

/* The conversation's name is its `cid` where that may be as long. */
static void add_cid(struct span name, struct buf *out)
{
    if (name.n <= CID_MAX) {
        json_put_string(out, name);
        return;
    }
    struct map_key key = import_key(name);
    buf_addf(out, "\"import-%016llx%016llx\"", (unsigned long long)key.a,
             (unsigned long long)key.b);
}

static struct span writer_at(const struct import_conv *conv, size_t i)
{
    return span_of(conv->users.p + conv->writers[i].at, conv->writers[i].size);
}

void import_conv_open(struct import_conv *conv, size_t size_max, struct buf *out)
{
    buf_add_str(out, "\"op\":\"open\",\"kind\":\"group\",\"history\":\"all\",\"cid\":");
    add_cid(import_conv_name(conv), out);
    buf_add_str(out, ",\"name\":");
    json_put_string(out, import_conv_name(conv));
    buf_add_str(out, ",\"members\":[");
    size_t i = 0;
    while (i < conv->writer_count && i < IMPORT_OPEN_USERS_MAX &&
           out->n + USER_MAX + 8 < size_max) {
        if (i > 0)
            buf_add_byte(out, ',');
        json_put_string(out, writer_at(conv, i++));
    }
    buf_add_byte(out, ']');
    conv->writers_opened = i;
    conv->state = IMPORT_OPENING;
}

void import_conv_opened(struct import_conv *conv, struct span c, uint64_t members, const char *self)
{
    ASSERT(conv->state == IMPORT_OPENING);
    bool self_writes = false;
    for (size_t i = 0; i < conv->writer_count; i++)
        self_writes |= span_is(writer_at(conv, i), self);
    uint64_t want = conv->writer_count + (self_writes ? 0 : 1);
    uint64_t opened = conv->writers_opened + (self_writes ? 0 : 1);
    /* All of the open's are there: go on after them. Fewer: it was opened by a smaller archive. */
    conv->writer_next = members >= want     ? conv->writer_count
                        : members >= opened ? conv->writers_opened
                                            : 0;
    conv->state = IMPORT_OPEN;
    buf_add_str(&conv->head, ",\"c\":");
    json_put_string(&conv->head, c);
    buf_add_byte(&conv->head, ',');
}

/* ---- sending ---- */

static void add_member(const struct import_conv *conv, struct buf *out)
{
    buf_add_str(out, "\"op\":\"member\"");
    buf_add_span(out, buf_span(&conv->head));
    buf_add_str(out, "\"set\":\"add\",\"user\":");
    json_put_string(out, writer_at(conv, conv->writer_next));
    buf_addf(out, ",\"cid\":\"m%llu\"",
             (unsigned long long)conv->writers[conv->writer_next].first_line);
}

static void add_line(const struct import_conv *conv, const struct import_slot *slot,
                     struct buf *out)
{
    buf_add_str(out, "\"op\":\"send\"");
    buf_add_span(out, buf_span(&conv->head));
    buf_add(out, conv->bytes.p + slot->at, slot->size);
    if (slot->reply_to >= 0)
        buf_addf(out, ",\"reply\":%llu", (unsigned long long)conv->lines[slot->reply_to].seq);
}

int import_conv_next(struct import_conv *conv, uint64_t now_us, struct buf *out,
                     struct import_slot **slot)
{
    *slot = NULL;
    if (conv->state != IMPORT_OPEN)
        return 0;
    if (conv->writer_next < conv->writer_count) {
        add_member(conv, out);
        return 1;
    }
    if (conv->again != SIZE_MAX) {
        if (conv->in_flight > 0 || now_us < conv->wait_until_us)
            return 0;
        conv->at = conv->again;
        conv->again = SIZE_MAX;
    }
    while (conv->at < conv->count && conv->lines[conv->at].seq != 0)
        conv->at++;
    if (conv->at == conv->count)
        return 0;
    struct import_slot *line = &conv->lines[conv->at];
    if (line->reply_to >= 0 && conv->lines[line->reply_to].seq == 0)
        return 0;
    add_line(conv, line, out);
    *slot = line;
    return 1;
}

void import_conv_sent(struct import_conv *conv, struct import_slot *slot)
{
    if (slot != NULL)
        conv->at++;
    else
        conv->writer_next++;
    conv->in_flight++;
}

void import_conv_acked(struct import_slot *slot, uint64_t seq)
{
    struct import_conv *conv = slot->conv;
    ASSERT(conv->in_flight > 0);
    conv->in_flight--;
    if (slot->seq == 0)
        conv->done++;
    slot->seq = seq;
}

void import_conv_later(struct import_slot *slot, uint64_t until_us)
{
    struct import_conv *conv = slot->conv;
    size_t position = (size_t)(slot - conv->lines);
    ASSERT(conv->in_flight > 0);
    conv->in_flight--;
    if (position < conv->again)
        conv->again = position;
    if (conv->wait_until_us < until_us)
        conv->wait_until_us = until_us;
}

bool import_conv_complete(const struct import_conv *conv)
{
    return conv->state == IMPORT_OPEN && conv->done == conv->count && conv->in_flight == 0 &&
           conv->writer_next == conv->writer_count;
}

size_t import_conv_disorder(const struct import_conv *conv)
{
    size_t wrong = 0;
    for (size_t i = 1; i < conv->count; i++)
        wrong += conv->lines[i].seq <= conv->lines[i - 1].seq;
    return wrong;
}
