/* gateway/say.h: what the protocol says, as JSON (docs/PROTOCOL.md): records, holes, conversations,
 * members, errors. Appended to a buf; spans are borrowed.
 * Thread: any. */
#ifndef LOQUAT_GATEWAY_SAY_H
#define LOQUAT_GATEWAY_SAY_H

#include "store/base/record.h"

struct say_place { /* where items come from, and who reads them */
    struct span conv;
    uint32_t partition;
    struct span self; /* the author sees the own cid; empty: nobody's */
};

/* The members of a record or hole, without braces. `record`: of say_view; NULL for a hole. */
void say_members(struct buf *out, const struct say_place *place, const Loquat__Item *item,
                 const struct record_view *record);
/* *record: `room`, or NULL for a hole. 0 or ERR_CORRUPT. */
int say_view(const Loquat__Item *item, struct record_view *room, const struct record_view **record);
/* One more of a live client's records: a line of its message, or an event of an event stream. */
void say_live(struct buf *out, const struct say_place *place, const Loquat__Item *item,
              const struct record_view *record, bool stream);
uint64_t say_last(const Loquat__Item *item); /* its highest sequence */
/* With braces, and say_view: 0 or ERR_CORRUPT. */
int say_element(struct buf *out, const struct say_place *place, const Loquat__Item *item);
/* What a user has set of a conversation; NULL: nothing. */
struct say_prefs {
    uint64_t muted_until; /* ms */
    bool pinned, hidden;
    struct span draft;
};
int say_conv(struct buf *out, const struct say_place *place, const Loquat__ConvInfo *info,
             const struct say_prefs *prefs);
/* When its newest message was written, or else it was opened. `last`: what info->last is. */
uint64_t say_newest(const Loquat__ConvInfo *info, const struct record_view *last);
/* A `mark` event. */
void say_mark(struct buf *out, const char *conv, const char *user, uint64_t read,
              uint64_t delivered);
/* The same of the user's place in a thread, and a `seen` event. */
void say_thread_mark(struct buf *out, const char *conv, const char *user, uint64_t thread,
                     uint64_t read);
void say_seen(struct buf *out, const char *conv, uint64_t seq, uint64_t n);
void say_typing(struct buf *out, const char *conv, const char *user, uint32_t ttl_ms);
void say_presence(struct buf *out, const char *user, uint32_t state, uint64_t seen_ms);
void say_member(struct buf *out, const Loquat__Member *member, bool marks);
/* ,"key":… ; null for 0 and for an empty text. */
void say_number_or_null(struct buf *out, const char *key, uint64_t v);
void say_text_or_null(struct buf *out, const char *key, const char *v);
/* {"code":…,"msg":…,"retry":…} */
void say_error(struct buf *out, int err, const char *msg, uint64_t after_ms);
void say_written(struct buf *out, const Loquat__Reply *reply); /* {"s":…} of a write */
void say_scope(struct buf *out, uint32_t scope);

#endif
