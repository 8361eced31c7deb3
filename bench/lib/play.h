/* bench/lib/play.h: a script (script.h) played by live users of one server, with reactions, edits
 * and files at the rates of a profile. Each user has a view (view.h) of each of its conversations,
 * made of what came to it; who comes into one fetches what was before, and what comes meanwhile
 * waits. Users leave, are added again, and lose their connections; what was not answered is sent
 * again under its cid.
 * Users:  those of the script, then readers, and last a keeper, who opens all conversations, adds
 *         and pins, and is in all of them.
 * Thread: one. Errors: none: see measure.h; what the server does wrong is counted in `differences`,
 *         and the first of them are told. */
#ifndef LOQUAT_BENCH_PLAY_H
#define LOQUAT_BENCH_PLAY_H

#include "bench/lib/follower.h"
#include "bench/lib/profile.h"
#include "bench/lib/script.h"
#include "bench/lib/view.h"

enum {
    PLAY_PAGE = 1000,
    PLAY_ITEMS_MAX = 2 * PLAY_PAGE + 2, /* holes come on top */
    PLAY_TOLD_MAX = 10,
    PLAY_SLOT_US = 10000,
    PLAY_FILE_MAX = 32 << 10
};

enum play_kind {
    PLAY_SAY,
    PLAY_EDIT,
    PLAY_DELETE,
    PLAY_REACT,
    PLAY_PIN,
    PLAY_ADD,
    PLAY_LEAVE,
    PLAY_META,
    PLAY_MARK,
    PLAY_HISTORY, /* pages of what was before */
    PLAY_CHECK,   /* … and of the folded view, in the end */
    PLAY_KINDS
};
struct play_ask {                   /* not answered, or not even sent */
    uint64_t id, number;            /* number: whatever the kind needs */
    const struct script_line *line; /* of PLAY_SAY */
    struct buf text;
    size_t stamp_at; /* where in `text` its time is to be put; 0: nowhere */
    uint64_t due_us;
    double again_s; /* to be sent again then; 0: not */
    uint32_t conv, person;
    uint8_t kind;
    bool sent, file;
};
struct play_user {
    struct play_ask **asks;
    size_t count, cap;
    uint64_t u; /* the last entry of the user log */
    uint64_t to_check;
    bool checking, checked;
};
/* A user in a conversation: what log->data is. */
struct play_seat {
    struct play *play;
    struct follower *follower;
    struct view view;
    uint32_t conv;
    uint64_t serial, base; /* what was up to `base` is fetched */
    bool filling;
    struct buf queue; /* what came meanwhile, line by line */
};
struct play_conv {
    char id[MADE_ID_SIZE + 1];
    uint64_t *seqs; /* of its lines; 0: not said */
    uint64_t head;
    bool *in;          /* by user */
    uint32_t *members; /* who was ever in */
    size_t count, cap;
};
struct play_act; /* what is to happen later */
struct play {
    struct gateway *gateway;
    uv_loop_t *loop;
    struct script script;
    struct profile profile;
    struct followers people;
    struct play_user *users;
    struct play_conv *convs;
    struct json *json, *page_json;
    struct play_act **slots;
    size_t slots_count, slot; /* slot: the next */
    size_t line;              /* the next */
    uv_timer_t tick;
    bool going, ending;
    double secs;
    uint64_t begun_us, asked, cids, serials;
    double mark_us, break_us;
    struct series latency_ms;
    uint64_t answers[PLAY_KINDS], refused, again, breaks, filled, files, unsaid, unanswered;
    uint64_t checked, checked_messages;
    uint64_t differences;
};
void play_open(struct play *play, struct gateway *gateway, uv_loop_t *loop, size_t users);
void play_begin(struct play *play); /* from now on the script is played */
/* Everybody has come back, everything is answered and has come to everybody. */
bool play_settled(struct play *play);
/* Every user comes anew, and what the server then says of every conversation is compared. */
void play_check(struct play *play);
void play_close(struct play *play);

/* ---- between the files of a play ---- */

struct play *play_of(const struct follower *follower);
size_t play_keeper(const struct play *play);
struct followed *play_log(struct play *play, uint32_t person, uint32_t conv); /* NULL: not in it */
/* An ask, to which the caller adds members beginning with a comma; play_ask_end sends it when that
 * is possible. `cid`: it has one. */
struct play_ask *play_ask(struct play *play, uint32_t person, enum play_kind kind, uint32_t conv,
                          bool cid);
void play_ask_end(struct play *play, uint32_t person, struct play_ask *ask);
void play_add_member(struct play *play, uint32_t conv, uint32_t person);
bool play_leaving(const struct play *play, uint32_t conv, uint32_t person);
void play_differs(struct play *play, const struct follower *follower, const char *conv, uint64_t s,
                  const char *what, struct span theirs);
void play_on_tick(uv_timer_t *timer);
void play_said(struct play *play, const struct play_ask *ask, uint32_t person, uint64_t s);
/* `conv`: from where its Conv stands in an answer or event. */
void play_take_seat(struct follower *follower, struct followed *log, struct span conv);
void play_leave_seat(struct followed *log);
void play_on_record(struct follower *follower, struct followed *log, struct span item, bool live);
void play_ask_history(struct play_seat *seat);
void play_take_history(struct follower *follower, const struct play_ask *ask, struct span line);
/* In the end: the answer of sync; a page of the folded view. */
void play_check_sync(struct follower *follower, struct span line);
void play_check_page(struct follower *follower, const struct play_ask *ask, struct span line);
/* The items of a page; returns its `next`, 0: none. */
uint64_t play_page(struct play *play, struct span line, struct json_val *items, size_t *count);

#endif
