/* bench/lib/script.h: what people of a chat archive did, as a play: of each conversation the
 * stretch of time in which most happened, all begun at once and played faster than it was. Where
 * the archive knows minutes only, the lines of one are spread over it.
 * Chosen: the busiest conversations for most of the people there may be, and the quietest (of a
 *         line a second of the play, at least) for further ones. Who has one nickname in several is
 *         one person; who is called something else from now on is another, as loquat-log import
 *         has it.
 * Owner:  all is the script's until script_close.
 * Errors: none: see measure.h. */
#ifndef LOQUAT_BENCH_SCRIPT_H
#define LOQUAT_BENCH_SCRIPT_H

#include "store/base/buf.h"
#include "store/base/ids.h"

#define SCRIPT_NOBODY UINT32_MAX

enum script_what {
    SCRIPT_SAY,
    SCRIPT_SAY_DELETED, /* a message that was taken back */
    SCRIPT_JOIN,
    SCRIPT_PART,
    SCRIPT_QUIT,
    SCRIPT_NICK, /* said, and then the person is `other` */
    SCRIPT_WHATS
};
struct script_line {
    uint64_t at_us; /* of the play */
    uint32_t conv, person, other;
    uint32_t place;      /* among the lines of its conversation */
    int32_t reply;       /* the place of what it answers; -1: nothing that is played */
    uint8_t what;        /* enum script_what */
    bool plain;          /* a message of kind text; else x-irc */
    const char *members; /* of the body, as JSON without the braces */
};
struct script_conv {
    const char *name;
    uint32_t lines;
    uint32_t *people; /* everybody who does something here */
    bool *joins;      /* … and of each: comes only later */
    size_t count, cap;
};
struct script {
    struct script_line *lines; /* in the order of time */
    size_t count;
    struct script_conv *convs;
    size_t convs_count;
    char (*people)[USER_MAX + 1];
    size_t people_count;
    uint64_t whats[SCRIPT_WHATS]; /* how many lines of each */
    struct buf *texts;            /* that names and members stand in, one of each conversation */
};
/* Plays secs * speed seconds in `secs`. */
void script_read(struct script *script, const char *path, double secs, double speed,
                 size_t people_max, size_t lines_max);
void script_close(struct script *script);

#endif
