/* replication/readindex.h: reads that must not be old. A leader that was cut off does not know that
 * there is another one, and what it holds may be behind what that one has acknowledged. So before
 * it reads it asks the other voters whether they know of a newer term: if a majority does not,
 * nobody had been elected before it was asked, and everything acknowledged by then was acknowledged
 * here. One question for all reads of a loop turn. (Ongaro, "Consensus: bridging theory and
 * practice", 6.4; a follower's heartbeat is not waited for.)
 * Owner:  the caller embeds struct readindex_wait, and has it back with `done`, once, later.
 * Thread: the loop's.
 * Limits: a read waits for READINDEX_MS_MAX at most.
 * Errors: ERR_NOT_LEADER: this node leads no more, or not enough others say that it does. */
#ifndef LOQUAT_REPLICATION_READINDEX_H
#define LOQUAT_REPLICATION_READINDEX_H

#include "replication/shard.h"

enum { READINDEX_MS_MAX = 2000, READINDEX_AGAIN_MS = 100, READINDEX_VOTERS_MAX = 64 };

struct readindex_wait {
    struct list_link link;
    uint64_t round, until_ms; /* the question that will do, and all later ones */
    void (*done)(struct readindex_wait *wait, int err);
};

struct readindex {
    struct shard *shards;
    uint32_t partitions;
    uint64_t self, round; /* of the last question */
    bool fresh;           /* reads have come since */
    size_t waiting;
    uint64_t asked_ms;
    struct readindex_part *parts;
    struct buf packed;
    void (*send)(void *arg, uint64_t to, enum link_type type, struct span message);
    void *arg;
};

void readindex_init(struct readindex *reads, struct shard *shards, uint32_t partitions,
                    uint64_t self,
                    void (*send)(void *arg, uint64_t to, enum link_type type, struct span message),
                    void *arg);
void readindex_close(struct readindex *reads); /* who waits is not called back */
void readindex_add(struct readindex *reads, uint32_t partition, struct readindex_wait *wait,
                   uint64_t now_ms);
void readindex_turn(struct readindex *reads, uint64_t now_ms); /* once per loop turn: asks */
bool readindex_idle(const struct readindex *reads);            /* nobody waits */
/* Another node's question, and its answer to one of here. ERR_CORRUPT: it is none. */
int readindex_asked(struct readindex *reads, uint64_t from, struct span probe);
int readindex_answered(struct readindex *reads, uint64_t from, struct span answer);

#endif
