/* gateway/turn.h: the sockets of one turn of a loop. Those that have something to read are read
 * together when all of them are known, and those to which something is to be written are written
 * to before the loop sleeps, many by one system call where the kernel allows it (batch.h).
 * Bounds: BATCH_MAX sockets at once; TURN_READ_BYTES of each are read together with others, and
 *         GATE_IN_BYTES of one that has more.
 * Thread: the loop's. */
#ifndef LOQUAT_GATEWAY_TURN_H
#define LOQUAT_GATEWAY_TURN_H

#include <stdbool.h>

enum { TURN_READ_BYTES = 4 << 10 };

struct conn;
struct gate;
struct turn;
struct turn *turn_new(bool ring); /* false: a system call for each socket */
void turn_free(struct turn *turn);
void turn_readable(struct conn *conn); /* its socket has something */
void turn_read(struct gate *gate);
void turn_write(struct gate *gate);

#endif
