/* replication/watermark.h: DIR/WATERMARK: how far the raft log of each partition was synced, told
 * outside of the journal. After a crash its last frame may be there in part, and goes; if a bit of
 * it has flipped it goes as well, and with it what was acknowledged. A log that ends below its
 * watermark gives that away.
 * Bytes:  one row of ROW_SIZE per partition: term u64, index u64, XXH3-64 of both u64 (seeded with
 *         the partition + 65536 × cuts), cuts u64. All zeros: never written.
 * Thread: put, write: the loop's; sync: any.
 * Errors: a row that can't be written stays behind: still a lower bound. So does, after a power
 *         cut, one that was not synced yet (WATERMARK_SYNC_MS). */
#ifndef LOQUAT_REPLICATION_WATERMARK_H
#define LOQUAT_REPLICATION_WATERMARK_H

#include <stdint.h>

enum { WATERMARK_SYNC_MS = 1000 };

/* The newest entry that was synced, and how often the log had been cut by then: see rlog.h. */
struct watermark_row {
    uint64_t term, index, cuts;
};

struct watermark {
    int fd;
    char *rows;            /* as the file has them, or will */
    uint32_t first, until; /* of those that were put and not written yet */
    uint64_t synced_ms;    /* of the last sync; only watermark_sync touches it */
};

/* Made when it is missing. 0 or ERR_IO with errno. */
int watermark_open(struct watermark *mark, const char *dir, uint32_t partitions);
void watermark_close(struct watermark *mark); /* written and synced */
/* 0, ERR_NOT_FOUND (nothing known), ERR_CORRUPT, ERR_IO. */
int watermark_get(const struct watermark *mark, uint32_t partition, struct watermark_row *row);
void watermark_put(struct watermark *mark, uint32_t partition, struct watermark_row row);
/* What was put; before anybody is told of what it is about. All in one: it is for each sync. */
void watermark_write(struct watermark *mark);
void watermark_sync(struct watermark *mark); /* when it is due */

#endif
