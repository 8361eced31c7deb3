/* store/client/import_conv.h: one conversation of an archive on its way into the server: its lines
 * as requests, its writers, and which line got which sequence. No I/O: import.c sends what comes.
 * Order:  lines are given out by position; a line that answers another waits for that one's
 *         sequence. After an answer that says "later", everything from that line on waits until
 *         nothing of the conversation is in flight, so that the order in the log stays.
 * Owner:  a conversation owns its bytes; import_slot pointers stay valid once it is loaded. */
#ifndef LOQUAT_CLIENT_IMPORT_CONV_H
#define LOQUAT_CLIENT_IMPORT_CONV_H

#include "store/base/map.h"
#include "store/client/import_line.h"

enum {
    IMPORT_OPEN_USERS_MAX = 4096, /* of one `open` */
    IMPORT_CONV_BYTES_MAX = 1 << 30,
};

enum import_state { IMPORT_LOADING, IMPORT_LOADED, IMPORT_OPENING, IMPORT_OPEN, IMPORT_OVER };

struct import_conv;
struct import_slot { /* of a line */
    struct import_conv *conv;
    uint64_t seq; /* 0: not acknowledged */
    uint32_t at, size;
    int32_t reply_to;
};
struct import_user {
    uint32_t at, size; /* in `users` */
    uint64_t first_line;
};

struct import_conv {
    struct import_conv *next; /* the importer's list */
    void *owner;
    enum import_state state;
    struct span name; /* in `bytes`, the first */
    struct buf bytes; /* encoded lines */
    struct import_slot *lines;
    size_t count, cap;
    struct buf users; /* their ids, one after the other */
    struct import_user *writers;
    size_t writer_count, writer_cap, writers_opened, writer_next;
    struct map writer_map;
    struct buf head;  /* "op":"send","c":…, of each line */
    size_t at;        /* next line to give out */
    size_t in_flight; /* lines and members */
    size_t done;      /* lines acknowledged */
    size_t again;     /* first line that was told "later"; SIZE_MAX: none */
    uint64_t wait_until_us;
};

struct map_key import_key(struct span name); /* of a user or conversation */

struct import_conv *import_conv_new(void *owner);
void import_conv_free(struct import_conv *conv);
struct span import_conv_name(const struct import_conv *conv); /* dies with the next line added */
size_t import_conv_size(const struct import_conv *conv);      /* bytes held */

/* Adds a line; the first gives the name. 0; ERR_CONFLICT: it is of another conversation;
 * ERR_BAD_REQUEST, ERR_TOO_LARGE with `why`. `keep`: fields that are not known go along. */
int import_conv_add(struct import_conv *conv, struct json *json, struct span line, bool keep,
                    const char **why);
/* The members of the `open`; as many writers as fit below `size_max` bytes. */
void import_conv_open(struct import_conv *conv, size_t size_max, struct buf *out);
/* The server's answer to it: the id and how many members there are. `self`: the importing user. */
void import_conv_opened(struct import_conv *conv, struct span c, uint64_t members,
                        const char *self);

/* The next request: 1, *slot NULL when it adds a member; 0: none at the moment. It is in flight
 * when import_conv_sent was called; until then the same comes again. */
int import_conv_next(struct import_conv *conv, uint64_t now_us, struct buf *out,
                     struct import_slot **slot);
void import_conv_sent(struct import_conv *conv, struct import_slot *slot);
void import_conv_acked(struct import_slot *slot, uint64_t seq);
void import_conv_later(struct import_slot *slot, uint64_t until_us);
bool import_conv_complete(const struct import_conv *conv);
/* Lines whose sequence is below that of the line before: 0 unless somebody else meddled. */
size_t import_conv_disorder(const struct import_conv *conv);

#endif
