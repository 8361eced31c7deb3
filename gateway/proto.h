/* gateway/proto.h: the operations of the protocol (docs/PROTOCOL.md): a request comes as a JSON
 * object, over WebSocket or made from an HTTP request, and is answered by call.h. write.c has the
 * operations that change something, read.c those that ask, proto.c the rest.
 * Thread: the loop's. */
#ifndef LOQUAT_GATEWAY_PROTO_H
#define LOQUAT_GATEWAY_PROTO_H

#include "gateway/call.h"
#include "gateway/session.h"

enum {
    PROTO_TEXT_MAX = 32768, /* bytes of a text */
    PROTO_NAME_MAX = 256,
    PROTO_TOPIC_MAX = 1024,
    PROTO_MENTIONS_MAX = 100,
    PROTO_TTL_MAX_S = 10 * 366 * 86400,
    PROTO_MEMBERS_MAX = 8192, /* of one `open`; scope admin too */
    PROTO_LIST_DEFAULT = 50,
    PROTO_LIST_MAX = 500,
    PROTO_USER_CONVS_MAX = SESSION_FOLLOWS_MAX, /* of one user, looked at for `list` */
    PROTO_PAGE_MAX = 1000,
    PROTO_THREADS_MAX = 100,
};
#define PROTO_WHOLE_MAX ((1ull << 53) - 1)

struct request {
    struct conn *conn;
    const struct who *who; /* NULL: not authenticated yet */
    const struct json_obj *obj;
    struct span c; /* valid, of the operations that take one */
    struct call *call;
    struct arena *arena; /* dies with the return of the operation */
    char why[120];       /* of an error */
};
/* 0: the call is answered, now or later. Otherwise the error that it is to be answered with. */
typedef int (*proto_op)(struct request *request);

enum proto_trait {
    PROTO_TAKES_C = 1,
    PROTO_FREE = 2,      /* does not count as a request of the user's */
    PROTO_HTTP_ONLY = 4, /* no operation of the WebSocket */
    PROTO_FLOODS = 8,    /* others see it: counts in the rates of the conversation */
    PROTO_JOBS = 16,     /* HTTP only, for tokens of scope jobs or admin */
};
struct proto_entry {
    const char *name;
    proto_op run;
    enum call_weight weight;
    unsigned traits; /* of enum proto_trait */
};
const struct proto_entry *proto_find(struct span name); /* NULL: unknown */

/* Whether the token is one for this. */
bool proto_may(const struct who *who, const struct proto_entry *entry, struct span c);
#define PROTO_SEND_ONLY "this token is for sending into one conversation only"

/* A line of a WebSocket client. */
void proto_take(struct conn *conn, struct span line);
/* An answer to what was no request. */
void proto_refuse(struct conn *conn, int err, const char *why);
/* Runs an operation for an HTTP request; `c` as in the path, not yet checked, p NULL: none. */
void proto_http(struct conn *conn, const struct proto_entry *entry, struct span c,
                const struct json_obj *obj);
/* Counts a request of the user's: 0, or after how many milliseconds it may be made. */
uint64_t proto_rate(struct conn *conn);
void proto_drop_cursors(struct session *session); /* of a sync that was not ended */
void proto_metrics(void);                         /* registers; once */

/* ---- fields: an error sets request->why and returns it; absent leaves *out as it is ---- */
int field_error(struct request *request, int err, const char *name, const char *what);
int field_whole(struct request *request, const char *name, uint64_t min, uint64_t max,
                uint64_t *out);
/* One that must be there, from 1 on; `what` is said where it is not. */
int field_seq(struct request *request, const char *name, const char *what, uint64_t *out);
int field_text(struct request *request, const char *name, size_t max, struct span *out);
int field_user(struct request *request, const char *name, bool required, struct span *out);
/* A list of them, `max` at most, copied into the request's arena. */
int field_users(struct request *request, const char *name, const struct json_val *val, size_t max,
                char ***users, size_t *count);
int field_cid(struct request *request, struct span *out);               /* required */
int field_switch(struct request *request, const char *name, bool *out); /* absent: true */
/* A NUL-terminated copy in the request's arena. */
char *field_copy(struct request *request, struct span text);
bool text_is_clean(struct span text); /* no control characters */

/* write.c; a command of the user's about call->conv, the answers {"s":…} and {} */
Loquat__Command write_command(struct request *request, uint32_t op);
int write_take_cid(struct request *request, Loquat__Command *command);
void write_answered(void *call, const Loquat__Reply *reply);
void write_done(void *call, const Loquat__Reply *reply);
int op_open(struct request *request);
int op_send(struct request *request);
int op_edit(struct request *request);
int op_delete(struct request *request);
int op_react(struct request *request);
int op_pin(struct request *request);
int op_meta(struct request *request);
int op_member(struct request *request);
int op_leave(struct request *request);
int op_mark(struct request *request);
int op_prefs(struct request *request);
/* read.c */
int op_range(struct request *request);
int op_members(struct request *request);
int op_seen(struct request *request);
int op_edits(struct request *request);
int op_threads(struct request *request);
int op_conv(struct request *request);
/* Asks what the user sees of call->conv: the answer has one ConvInfo. False: busy. */
bool read_ask_conv(struct call *call, upstream_done done);
void read_conv_for(struct call *call); /* answers with the Conv of call->conv */
/* Strings are the call's. *max: the most that may be asked for, then what is. */
int read_take_range(struct request *request, Loquat__Read *read, uint64_t *max);
/* own.c, invite.c */
int op_block(struct request *request);
int op_blocks(struct request *request);
int op_privacy(struct request *request);
int op_invite(struct request *request);
int op_uninvite(struct request *request);
int op_invites(struct request *request);
int op_join(struct request *request);
/* stream.c */
int op_records(struct request *request);
/* typing.c, presence.c */
int op_typing(struct request *request);
int op_presence(struct request *request);
/* list.c */
int op_list(struct request *request);
int op_sync(struct request *request);
/* search.c */
int op_search(struct request *request);

#endif
