/* store/kv_trash.h: what a database deletes goes slowly. A file system that tells its device of
 * freed blocks (mount option `discard`) does so while the file is deleted, 0.25 ms for each MiB
 * here, and whoever syncs meanwhile waits: up to half a second when a compaction is done with its
 * inputs. So each file gets a second name in DIR/trash; when that is the only one left the file is
 * made shorter, a step at a time (docs/decisions/0013-deleting-slowly.md).
 * Thread: one of its own for each database; it touches no file that has another name.
 * Limits: a backlog is gone within TRASH_MS_MAX; when the disk has less room than TRASH_ROOM
 *         beyond the backlog, at once.
 * Errors: none: without the second name a file is deleted as ever. */
#ifndef LOQUAT_STORE_KV_TRASH_H
#define LOQUAT_STORE_KV_TRASH_H

enum {
    TRASH_LOOK_MS = 400,
    TRASH_STEP_MS = 15,
    TRASH_STEP = 1 << 20,
    TRASH_MS_MAX = 8000,
    TRASH_ROOM = 1 << 30,
};

struct kv_trash;
struct kv_trash *kv_trash_open(const char *dir); /* of the database, which is open */
void kv_trash_close(struct kv_trash *trash);     /* the database is closed; NULL is fine */

#endif
