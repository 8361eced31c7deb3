/* replication/datadir.h: the directory of a node.
 *   FORMAT   text: format version, partitions, id of the directory, the cluster's id and the node's
 *            number; XXH3-64 of these lines. Written when the directory is made and when it is
 *            raised to a newer format, synced, checked at each start
 *   LOCK     held by the process that uses the directory
 *   journal/ the raft logs (journal.h)      data/    data DB
 *   index/   the search index, made of what is in data/: it may be removed while nobody uses it
 * Formats 2 and 3 had the raft logs in a RocksDB under raft/ (rlog_old.h makes a journal of it); of
 * format 2, of a node that is alone, FORMAT names no cluster.
 * Errors: a message in `why` says what is wrong and what to do; nothing in the directory has been
 *         touched then. */
#ifndef LOQUAT_REPLICATION_DATADIR_H
#define LOQUAT_REPLICATION_DATADIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The directory of a node among others is made as FORMAT, whatever is newest: nobody can be told
 * what he can't read. A node raises it to the newest format when all who have to understand what it
 * writes then do (replication/node_format.c). */
enum {
    DATADIR_FORMAT_OLDEST = 2,
    DATADIR_FORMAT_CLUSTER = 3, /* from here on FORMAT names the cluster */
    DATADIR_FORMAT = 4,
    DATADIR_FORMAT_CHAT = 5,   /* from here on entries of ENTRY_VERSION_CHAT are written */
    DATADIR_FORMAT_SOCIAL = 6, /* and of ENTRY_VERSION_SOCIAL */
    DATADIR_FORMAT_JOBS = 7,   /* and of ENTRY_VERSION_JOBS */
    DATADIR_FORMAT_FIND = 8,   /* and of ENTRY_VERSION_FIND */
    DATADIR_FORMAT_NEWEST = 8,
    DATADIR_NEWEST_WIRE = 6, /* nodes that speak this version read it, see WIRE_VERSION */
    DATADIR_PATH_MAX = 4096
};

struct datadir {
    int lock_fd;
    unsigned format;
    uint32_t partitions;
    char id[33];      /* random, made with the directory */
    char cluster[33]; /* the same as id: the node is alone */
    uint64_t node;
    char journal[DATADIR_PATH_MAX], data[DATADIR_PATH_MAX], scratch[DATADIR_PATH_MAX];
    char index[DATADIR_PATH_MAX];
    char raft[DATADIR_PATH_MAX]; /* of old: see rlog_old.h */
    int fresh;                   /* just made: databases are to be created */
};

/* Makes the directory when there is none (or it is empty) and `create` is set. `partitions`: how
 * many a new one gets, 0 for the default; an existing one must have as many unless it is 0. */
int datadir_open(struct datadir *dir, const char *path, uint32_t partitions, int create, char *why,
                 size_t size);
/* A new directory becomes that of a node among others. */
void datadir_join(struct datadir *dir, const char *cluster, uint64_t node);
bool datadir_alone(const struct datadir *dir);
bool datadir_newest(const struct datadir *dir); /* there is nothing to be raised */
/* A new directory counts from here on: when journal and database are made and bootstrapped. */
int datadir_commit(struct datadir *dir, const char *path, char *why, size_t size);
/* From here on programs that do not know that format refuse it. `dir` is as it was, but for those
 * who read it next; on any thread. ERR_IO: it is as it was, or raised, and may be tried again. */
int datadir_raise(const struct datadir *dir, unsigned format, const char *path, char *why,
                  size_t size);
void datadir_close(struct datadir *dir);
/* Bytes that an unprivileged writer can still use where `path` is; UINT64_MAX: unknown. */
uint64_t datadir_free_bytes(const char *path);
/* RocksDB aborts when it finds no room while it opens: better said before. ERR_NO_SPACE and why. */
int datadir_check_room(const char *path, char *why, size_t size);

#endif
