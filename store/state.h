/* store/state.h: the inside of the state machine, shared by apply*.c only: caches of conversations
 * and members, the rows of the batch being built, and appending to a log. */
#ifndef LOQUAT_STORE_STATE_H
#define LOQUAT_STORE_STATE_H

#include "store/apply.h"
#include "store/base/map.h"
#include "store/command.h"
#include "store/dedup.h"
#include "store/key.h"

enum {
    CONV_CACHE_MAX = 32768, /* per partition; emptied between batches when reached */
    MEMBER_CACHE_MAX = 131072,
    REACTIONS_MAX = 64,         /* different ones on one message */
    REACTIONS_OF_USER_MAX = 20, /* on one message */
    PINS_MAX = 50,              /* of a conversation */
    INVITES_MAX = 50,           /* of a conversation, that work */
    INVITE_TOKEN_MIN = 16,      /* bytes */
    INVITE_TOKEN_MAX = 32,
    INVITE_MAX_S = 366 * 86400,
    BLOCKS_MAX = 1000,            /* users that one user has blocked */
    MENTION_ALL_MEMBERS_MAX = 32, /* in larger groups only owners and admins mention all */
    BLOCKED_BY_A = 1,             /* bits of ConvHeader.blocked */
    BLOCKED_BY_B = 2,
    OUT_BITS = 16, /* number of an effect: raft index, then a counter of so many bits; an entry's
                      bytes bound how many it can owe */
    OUTS_PER_ENTRY_MAX = 1 << OUT_BITS,
};

/* A log: a conversation or a user's own. `head` and `n` are those of its last record. */
struct conv {
    struct conv_id id;
    Loquat__ConvHeader *header; /* own heap copy; of a user log only id and kind mean anything */
    uint64_t head, n, dedup_hint;
    uint64_t newest_seq, newest_ms; /* the newest message, whatever has become of it; 0: not looked
                                       for yet */
    uint64_t seen_seq, seen_n; /* of a large one: the newest message, and how many have read it; 0:
                                  not known. In memory alone */
};

struct member {
    struct conv_id conv;
    Loquat__Member *row; /* own heap copy */
    bool dirty;          /* differs from the row on disk: written at the next seal */
};

struct apply {
    struct kv *kv;
    uint32_t partition, partitions;
    uint64_t index, term;
    uint64_t mid_ms;
    uint64_t seal_index;    /* what is kept in memory per message is on disk up to this entry */
    uint64_t sealing_index; /* and will be up to this one when `dedup.sealing` is */
    uint32_t mid_counter;
    struct map convs, members, overlay;
    struct arena overlay_arena;
    struct dedup dedup;
    size_t dirty_members;
    bool caches_full;

    /* of the entry in work */
    struct kv_batch *batch;
    struct applied *out;
    uint64_t now_ms, entry_index;
    unsigned entry_version;
    uint32_t out_counter;
    struct buf feed, scratch, value;
    struct conv_id feed_id;
    uint64_t feed_first, feed_count;
    uint64_t feed_total;   /* records of the entry so far */
    struct arena commands; /* of the entry, unpacked */
    /* of the command in work */
    struct conv_id conv_id; /* of the conversation it names */
    uint64_t cid_hash;      /* under which its record goes into `dedup` */
    struct arena arena;
    struct apply_result *result;
};

/* Rows through the batch: what was put in it is seen by state_get. */
int state_get(struct apply *apply, enum kv_cf cf, struct span key, struct buf *value);
void state_put(struct apply *apply, enum kv_cf cf, struct span key, struct span value);
/* The value is not copied: it stays where it is until apply_written. */
void state_put_kept(struct apply *apply, enum kv_cf cf, struct span key, struct span value);
void state_delete(struct apply *apply, enum kv_cf cf, struct span key);

/* A row that is a message of wire.proto. Got into apply->value; empty when there is none. */
int state_get_or_empty(struct apply *apply, enum kv_cf cf, struct key key);
void state_put_message(struct apply *apply, enum kv_cf cf, struct key key,
                       const ProtobufCMessage *message);

/* 0 and *conv, ERR_NOT_FOUND, ERR_CONFLICT (another id with the same hash), or a kv error. `id`:
 * conv_id_of(name), where the caller has it. */
int state_conv(struct apply *apply, struct span name, struct conv **conv);
int state_conv_named(struct apply *apply, struct conv_id id, struct span name, struct conv **conv);
int state_user_log(struct apply *apply, struct span user, struct conv **conv); /* made when new */
int state_conv_by_id(struct apply *apply, struct conv_id id, struct conv **conv);
struct conv *state_conv_new(struct apply *apply, struct span name, uint32_t kind);
void state_conv_save(struct apply *apply, struct conv *conv); /* puts the header row */

/* ERR_NOT_FOUND when there never was one; a member who left has ROLE_NONE. */
int state_member(struct apply *apply, struct conv *conv, struct span user, struct member **member);
struct member *state_member_new(struct apply *apply, struct conv *conv, struct span user);
void state_member_save(struct apply *apply, struct member *member);
/* Who writes has read what came before: in memory now, saved at the next seal; after a restart the
 * record itself says it again (apply.c, recall). */
void state_member_wrote(struct apply *apply, struct member *member, uint64_t seq, uint64_t n);

/* Appends: gives sequence, ordinal and mid; fills the result when `result` is set. `record` holds
 * ts (0: the entry's), kind, from, body, cid, …; its gap and mid_off are set here. */
uint64_t state_append(struct apply *apply, struct conv *conv, Loquat__Record *record,
                      struct apply_result *result);
/* Unpacked into `arena`. ERR_NOT_FOUND when the row is gone. */
int state_record(struct apply *apply, const struct conv *conv, uint64_t seq, struct arena *arena,
                 Loquat__Record **record);
void state_record_rewrite(struct apply *apply, const struct conv *conv, uint64_t seq,
                          const Loquat__Record *record);
int state_fold(struct apply *apply, const struct conv *conv, uint64_t seq, struct arena *arena,
               Loquat__Fold **fold); /* an empty one when there is none */
void state_fold_save(struct apply *apply, const struct conv *conv, uint64_t seq,
                     const Loquat__Fold *fold);

void state_out(struct apply *apply, uint32_t partition, const Loquat__Command *command);
/* Between batches: forgets all but members that are newer than their row; `all`: these too. */
void state_caches_trim(struct apply *apply, bool all);
int state_refuse(struct apply *apply, int err, const char *msg); /* sets the result; returns 0 */
int state_refuse_old(struct apply *apply); /* the entry is of a version before this command's */
/* A record of the command's author with this body, which is closed. */
uint64_t state_append_body(struct apply *apply, struct conv *conv, const Loquat__Command *command,
                           uint32_t kind, struct buf *body);
/* Whether a record is such a one; the body is closed. */
bool state_same_body(const Loquat__Record *record, uint32_t kind, struct buf *body);
bool state_member_active(const struct member *member);
void state_text_set(char **field, const char *text); /* of a header: its own copy */
bool state_bytes_same(ProtobufCBinaryData a, ProtobufCBinaryData b);

/* Grows an array of `struct applied`. */
#define APPLIED_PUSH(applied, field)                                                               \
    ((applied)->field##_count == (applied)->field##_cap                                            \
         ? (void)((applied)->field##s = applied_grow((applied)->field##s, &(applied)->field##_cap, \
                                                     sizeof *(applied)->field##s))                 \
         : (void)0,                                                                                \
     &(applied)->field##s[(applied)->field##_count++])
void *applied_grow(void *array, size_t *cap, size_t size);

/* One function per command; each returns 0 (the result says what came of it) or a kv error. */
int apply_op_open(struct apply *apply, const Loquat__Command *command);
int apply_op_member(struct apply *apply, const Loquat__Command *command);
int apply_op_leave(struct apply *apply, const Loquat__Command *command);
int apply_op_retain(struct apply *apply, const Loquat__Command *command);
int apply_op_user_effect(struct apply *apply, const Loquat__Command *command);
int apply_op_out_done(struct apply *apply, const Loquat__Command *command);
int apply_op_send(struct apply *apply, const Loquat__Command *command);
int apply_op_edit(struct apply *apply, const Loquat__Command *command);
int apply_op_delete(struct apply *apply, const Loquat__Command *command);
int apply_op_react(struct apply *apply, const Loquat__Command *command);
int apply_op_pin(struct apply *apply, const Loquat__Command *command);
int apply_op_prefs(struct apply *apply, const Loquat__Command *command);
int apply_op_meta(struct apply *apply, const Loquat__Command *command);
int apply_op_mark(struct apply *apply, const Loquat__Command *command);
int apply_op_hide(struct apply *apply, const Loquat__Command *command);
int apply_op_thread_mark(struct apply *apply, const Loquat__Command *command);
int apply_op_invite(struct apply *apply, const Loquat__Command *command);
int apply_op_uninvite(struct apply *apply, const Loquat__Command *command);
int apply_op_join(struct apply *apply, const Loquat__Command *command);
int apply_op_block(struct apply *apply, const Loquat__Command *command);
int apply_op_privacy(struct apply *apply, const Loquat__Command *command);
int apply_op_blocking(struct apply *apply, const Loquat__Command *command);
int apply_op_user_note(struct apply *apply, const Loquat__Command *command);
int apply_op_consumer(struct apply *apply, const Loquat__Command *command);
int apply_op_worker(struct apply *apply, const Loquat__Command *command);
int apply_op_cursor(struct apply *apply, const Loquat__Command *command);
int apply_op_consumer_drop(struct apply *apply, const Loquat__Command *command);

/* For a command of a member: finds both. ERR_NOT_FOUND is set as the result when the user may not
 * know the conversation (then *conv is NULL and 0 is returned). An admin needs no membership:
 * *member may be NULL then. */
int apply_find(struct apply *apply, const Loquat__Command *command, struct conv **conv,
               struct member **member);
/* What those who follow the conversation are told of the member's marks: conv, user and members are
 * set here. */
void apply_tell_mark(struct apply *apply, const struct conv *conv, const struct member *member,
                     struct apply_mark mark);
bool apply_invite_works(const Loquat__Invite *invite, uint64_t now_ms);
/* Who of these two has blocked the other one, in the direct conversation that the command names:
 * the bits for its header. */
int apply_load_blocked(struct apply *apply, const char *user_a, const char *user_b, uint32_t *bits);
/* The user's settings; ones with nothing set when there are none. */
int apply_settings(struct apply *apply, struct span user, struct arena *arena,
                   Loquat__UserSettings **settings);
/* The first answer to (user, cid), when there was one: sets the result and *found. `same` compares
 * the stored record with the command. */
int apply_first_answer(struct apply *apply, struct conv *conv, const Loquat__Command *command,
                       bool (*same)(const Loquat__Record *, const Loquat__Command *), bool *found);
/* Both, which most commands of a member begin with: *conv is NULL when all has been answered. */
int apply_begin(struct apply *apply, const Loquat__Command *command,
                bool (*same)(const Loquat__Record *, const Loquat__Command *), struct conv **conv,
                struct member **member);

#endif
