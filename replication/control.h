/* replication/control.h: how loquat-compact speaks to a running node: DIR/control.sock, link.h
 * frames with a Control one way and Reports back. The file system's permissions are the authority:
 * the socket has mode 0600 and stands in a directory of mode 0700.
 * A request is worked on by a thread of its own that may take its time (compaction/keeper.h); what
 * it changes goes through consensus or the apply thread like anything else. When the client goes,
 * the job ends at its next step. Floors are taken on a full disk, too: they are how it gets room.
 * Thread: the loop's; control_connect: any.
 * Limits: CONTROL_CLIENTS_MAX links, one job at a time (a second is answered ERR_BUSY). */
#ifndef LOQUAT_REPLICATION_CONTROL_H
#define LOQUAT_REPLICATION_CONTROL_H

#include "compaction/filter.h"
#include "replication/applier.h"
#include "replication/indexer.h"
#include "replication/shard.h"

enum { CONTROL_CLIENTS_MAX = 16 };

struct control_env {
    uv_loop_t *loop;
    const char *dir;
    struct kv *data;
    struct indexer *indexer;
    struct filter *filter;
    struct applier *applier;
    struct shard *shards;
    uint32_t partitions;
};

struct control;
/* Call with the directory's lock held: a socket that a crash left is replaced. When there can be
 * none, that is logged, and the node does without. */
struct control *control_start(const struct control_env *env);
void control_answer(struct control *control, const struct apply_result *result);
void control_close(struct control *control); /* no new requests; what is under way ends */
struct control_state {
    bool working;
    uint64_t at, all; /* of the phase, as the job said last; 0 without one */
};
struct control_state control_state(struct control *control);
bool control_idle(const struct control *control);
void control_stop(struct control *control); /* must be closed and idle */
void control_free(struct control *control); /* when the loop has ended */

/* A descriptor for a link to the node that holds DIR; -1 and errno. */
int control_connect(const char *dir);

#endif
