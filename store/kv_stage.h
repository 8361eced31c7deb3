/* store/kv_stage.h: the rows of a key range, all families, written to files beside the data DB and
 * then taken over instead of what it has there. Taking over can be cut short anywhere and done
 * again, any number of times, as long as the files are there; who begins it writes down before
 * that it has to be finished.
 * Files:  DIR/<family>-<number>.sst, of at most about STAGE_FILE_BYTES; when it is finished LIST:
 *         version u8, how many of each family u32 LE, XXH3-64 of these u64; and until then MARK:
 *         version u8, how many of each family u32 LE, family u8, the last key and a note, each with
 *         its size u32 LE before it, XXH3-64 of these u64.
 * Thread: a stage: one. kv_stage_install: the one that writes to the database.
 * Errors: ERR_NO_SPACE, ERR_IO, ERR_CORRUPT (of kv_stage_install: a file is missing or damaged, or
 *         kv_stage_finish was never reached); kv_error tells more. */
#ifndef LOQUAT_STORE_KV_STAGE_H
#define LOQUAT_STORE_KV_STAGE_H

#include "store/kv.h"

enum { STAGE_FILE_BYTES = 128 << 20, STAGE_PATH_MAX = 4096, STAGE_NOTE_MAX = 256 };

struct kv_stage;
/* An empty one: what is in `dir` from before goes; it is made when it is missing. */
int kv_stage_open(struct kv *kv, const char *dir, struct kv_stage **stage);
/* Families in their order, keys ascending in each: ERR_CORRUPT when they are not. */
int kv_stage_put(struct kv_stage *stage, enum kv_cf cf, struct span key, struct span value);
size_t kv_stage_unmarked(const struct kv_stage *stage); /* bytes that were put since its mark */
enum kv_cf kv_stage_last(const struct kv_stage *stage, struct span *key); /* what was put last */
/* What there is so far, and `note`, at most STAGE_NOTE_MAX bytes, are on disk when it returns. */
int kv_stage_mark(struct kv_stage *stage, struct span note);
/* The stage as it was when it was marked last, by whichever process; `note` is added to.
 * ERR_NOT_FOUND: it was not, or the mark is damaged. */
int kv_stage_resume(struct kv *kv, const char *dir, struct kv_stage **stage, struct buf *note);
int kv_stage_finish(struct kv_stage *stage); /* returns when it is all on disk */
void kv_stage_close(struct kv_stage *stage); /* the files stay */
/* The rows of [from, until) are those of the files; of every family, on disk when it returns. */
int kv_stage_install(struct kv *kv, const char *dir, struct span from, struct span until);
void kv_stage_remove(const char *dir);

#endif
