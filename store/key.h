/* store/key.h: every key layout, in one place. Numbers are big-endian: keys sort as they should.
 * All keys begin with the partition, so that one partition is one range of each column family. */
#ifndef LOQUAT_STORE_KEY_H
#define LOQUAT_STORE_KEY_H

#include "store/base/buf.h"
#include "store/base/ids.h"

enum {
    KEY_MAX = 2 + 16 + 1 + USER_MAX + 1 + 8,
    KEY_CONV_SIZE = 18,
    KEY_SEQ_SIZE = 26,
    KEY_NEAR = 64, /* sequences of a conversation, from a multiple on, that filters know together */
};

struct key {
    char p[KEY_MAX];
    size_t n;
};

static inline struct span key_span(const struct key *key)
{
    return (struct span){key->p, key->n};
}

/* [p] : apl; first key of a partition anywhere */
static inline struct key key_partition(uint32_t partition)
{
    struct key key = {.n = 2};
    put_be16(key.p, (uint16_t)partition);
    return key;
}

/* [p][conv 16] : first key of a conversation */
static inline struct key key_conv(uint32_t partition, struct conv_id id)
{
    struct key key = {.n = KEY_CONV_SIZE};
    put_be16(key.p, (uint16_t)partition);
    put_be64(key.p + 2, id.hi);
    put_be64(key.p + 10, id.lo);
    return key;
}

static inline struct conv_id key_conv_id(struct span key)
{
    return (struct conv_id){get_be64(key.p + 2), get_be64(key.p + 10)};
}

/* [p][conv][seq 8] : log, fold; with cid hash for seq: dedup */
static inline struct key key_seq(uint32_t partition, struct conv_id id, uint64_t seq)
{
    struct key key = key_conv(partition, id);
    put_be64(key.p + key.n, seq);
    key.n += 8;
    return key;
}

enum {
    KEY_TAG_HEADER = 0,
    KEY_TAG_MEMBER = 1,
    KEY_TAG_REACTIONS = 2,
    KEY_TAG_MENTIONS = 3,
    KEY_TAG_BLOCKING = 4,
    KEY_TAG_HIDDEN = 5,
    KEY_TAG_THREAD = 6,
    KEY_TAG_ACTIVE = 7,
    KEY_TAG_PLACE = 8
};                                                                    /* conv */
enum { KEY_TAG_LIST = 1, KEY_TAG_USERLOG = 2, KEY_TAG_SETTINGS = 3 }; /* user */

/* [p][conv][0] : conv, the header */
static inline struct key key_header(uint32_t partition, struct conv_id id)
{
    struct key key = key_conv(partition, id);
    key.p[key.n++] = KEY_TAG_HEADER;
    return key;
}

static inline struct key key_of_user(uint32_t partition, struct conv_id id, char tag,
                                     struct span user)
{
    struct key key = key_conv(partition, id);
    key.p[key.n++] = tag;
    if (user.n > 0)
        memcpy(key.p + key.n, user.p, user.n);
    key.n += user.n;
    return key;
}

/* [p][conv][1][user] : conv, a member; empty user: the first */
static inline struct key key_member(uint32_t partition, struct conv_id id, struct span user)
{
    return key_of_user(partition, id, KEY_TAG_MEMBER, user);
}

/* [p][conv][4][user] : conv, the user has blocked the other one of this direct conversation */
static inline struct key key_blocking(uint32_t partition, struct conv_id id, struct span user)
{
    return key_of_user(partition, id, KEY_TAG_BLOCKING, user);
}

/* [p][conv][2][seq 8][user] : conv, what the user put on the message; empty user: the first */
static inline struct key key_reactions(uint32_t partition, struct conv_id id, uint64_t seq,
                                       struct span user)
{
    struct key key = key_conv(partition, id);
    key.p[key.n++] = KEY_TAG_REACTIONS;
    put_be64(key.p + key.n, seq);
    key.n += 8;
    if (user.n > 0)
        memcpy(key.p + key.n, user.p, user.n);
    key.n += user.n;
    return key;
}

static inline struct key key_user_seq(uint32_t partition, struct conv_id id, char tag,
                                      struct span user, uint64_t seq)
{
    struct key key = key_of_user(partition, id, tag, user);
    key.p[key.n++] = 0;
    put_be64(key.p + key.n, seq);
    key.n += 8;
    return key;
}

enum { MENTION_SIZE = 8 }; /* bytes of the value: when the message expires */

/* [p][conv][3][user][0][seq 8] : conv, the message names the user; empty user: all */
static inline struct key key_mention(uint32_t partition, struct conv_id id, struct span user,
                                     uint64_t seq)
{
    return key_user_seq(partition, id, KEY_TAG_MENTIONS, user, seq);
}

/* [p][conv][5][user][0][seq 8] : conv, the user has deleted the message for himself; no value */
static inline struct key key_hidden(uint32_t partition, struct conv_id id, struct span user,
                                    uint64_t seq)
{
    return key_user_seq(partition, id, KEY_TAG_HIDDEN, user, seq);
}

enum { THREAD_SIZE = 8, ACTIVE_SIZE = 8, PLACE_SIZE = 8 }; /* bytes of the values */

/* [p][conv][6][root 8][seq 8] : conv, the message belongs to the thread; when it expires */
static inline struct key key_thread(uint32_t partition, struct conv_id id, uint64_t root,
                                    uint64_t seq)
{
    struct key key = key_conv(partition, id);
    key.p[key.n++] = KEY_TAG_THREAD;
    put_be64(key.p + key.n, root);
    put_be64(key.p + key.n + 8, seq);
    key.n += 16;
    return key;
}

/* [p][conv][7][seq 8] : conv, the newest message of a thread; its root */
static inline struct key key_active(uint32_t partition, struct conv_id id, uint64_t seq)
{
    struct key key = key_conv(partition, id);
    key.p[key.n++] = KEY_TAG_ACTIVE;
    put_be64(key.p + key.n, seq);
    key.n += 8;
    return key;
}

/* [p][conv][8][user][0][root 8] : conv, up to where the user has read the thread */
static inline struct key key_place(uint32_t partition, struct conv_id id, struct span user,
                                   uint64_t root)
{
    return key_user_seq(partition, id, KEY_TAG_PLACE, user, root);
}

/* [p][user 16][1][conv 16] : user, a row of the list; zero conv: the first */
static inline struct key key_user_conv(uint32_t partition, struct conv_id user, struct conv_id id)
{
    struct key key = key_conv(partition, user);
    key.p[key.n++] = KEY_TAG_LIST;
    put_be64(key.p + key.n, id.hi);
    put_be64(key.p + key.n + 8, id.lo);
    key.n += 16;
    return key;
}

/* [p][user 16][2][seq 8] : user, a record of the user's own log */
static inline struct key key_user_log(uint32_t partition, struct conv_id user, uint64_t seq)
{
    struct key key = key_conv(partition, user);
    key.p[key.n++] = KEY_TAG_USERLOG;
    put_be64(key.p + key.n, seq);
    key.n += 8;
    return key;
}

/* [p][user 16][3] : user, what the user has set of himself */
static inline struct key key_user_settings(uint32_t partition, struct conv_id user)
{
    struct key key = key_conv(partition, user);
    key.p[key.n++] = KEY_TAG_SETTINGS;
    return key;
}

enum { KEY_TAG_CONSUMER = 1, KEY_TAG_CURSOR = 2 }; /* apl */

/* [p][tag][name] : apl; empty name: the first of them */
static inline struct key key_named(uint32_t partition, char tag, struct span name)
{
    struct key key = key_partition(partition);
    key.p[key.n++] = tag;
    if (name.n > 0)
        memcpy(key.p + key.n, name.p, name.n);
    key.n += name.n;
    return key;
}

/* [p][number 8] : feed (raft index), out */
static inline struct key key_number(uint32_t partition, uint64_t number)
{
    struct key key = key_partition(partition);
    put_be64(key.p + key.n, number);
    key.n += 8;
    return key;
}

#endif
