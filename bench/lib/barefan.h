/* bench/lib/barefan.h: the reference of what goes to many: another process that writes a frame as
 * a gateway's to each of `count` sockets, one write a frame, in a bare loop, whenever it is told.
 * Owner:  all of it is barefan_start's until barefan_close.
 * Errors: none: see measure.h. */
#ifndef LOQUAT_BENCH_BAREFAN_H
#define LOQUAT_BENCH_BAREFAN_H

#include "bench/lib/sock.h"

enum { BAREFAN_MAX = 1020, BAREFAN_FRAME_MAX = 1000 };

struct barefan {
    pid_t pid;
    int port;
    size_t count;
    struct sock *receivers;
    struct net trigger;
};
void barefan_start(struct barefan *fan, size_t count); /* before anything else is started */
/* Connects the receivers; frames hold a line of so many bytes that begins as a record does. */
void barefan_open(struct barefan *fan, uv_loop_t *loop, uint64_t frame_bytes,
                  void (*on_line)(struct sock *sock, struct span line));
void barefan_say(struct barefan *fan, uint8_t burst); /* so many frames to each */
void barefan_close(struct barefan *fan, uv_loop_t *loop);

#endif
