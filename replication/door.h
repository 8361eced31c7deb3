/* replication/door.h: where gateways and other nodes call on a node over TCP: takes their
 * connections, has them prove that they belong to the cluster (store/base/handshake.h), where there
 * are certificates inside of TLS, and hands those over who did.
 * Thread: the loop's; door_new from where the loop is not running yet, too.
 * Limits: DOOR_CALLERS_MAX who have not proved themselves yet, each for HANDSHAKE_MS_MAX: whoever
 *         comes above that takes the place of the one who has been there longest. Without
 *         descriptors it rests for DOOR_PAUSE_MS. Of TLS DOOR_STEPS_MAX steps are taken in a
 *         millisecond: links have the loop meanwhile. */
#ifndef LOQUAT_REPLICATION_DOOR_H
#define LOQUAT_REPLICATION_DOOR_H

#include <stdbool.h>
#include <uv.h>

#include "store/base/handshake.h"

enum {
    DOOR_CALLERS_MAX = 64,
    DOOR_ACCEPTS_MAX = 64,
    DOOR_PAUSE_MS = 200,
    DOOR_SWEEP_MS = 100,
    DOOR_STEPS_MAX = 2,
};

/* `fd` listens and becomes the door's; `secret` and `tls` are borrowed (NULL: without TLS);
 * `on_proved` owns the lines that it gets. Nobody is let in before door_open. */
struct door *door_new(uv_loop_t *loop, int fd, struct span secret, struct tls *tls,
                      void (*on_proved)(void *arg, enum handshake_role role, struct line line),
                      void *arg);
/* NULL is a door that nobody comes through. */
void door_open(struct door *door);
void door_close(struct door *door);           /* its handles close in the next turns of the loop */
size_t door_callers(const struct door *door); /* who have not proved themselves yet */
bool door_idle(const struct door *door);      /* after door_close: they have, and it may be freed */
void door_free(struct door *door);

#endif
