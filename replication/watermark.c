#include "replication/watermark.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "replication/datadir.h"
#include "store/base/buf.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"

enum { ROW_SIZE = 32 };

static uint64_t row_sum(const char *row, uint32_t partition)
{
    return XXH3_64bits_withSeed(row, 16, partition + (get_le64(row + 24) << 16));
}

/* Rows that are there stay; the rest is filled up, so that no put needs room on the disk. */
static int fill(int fd, uint32_t partitions)
{
    static const char zeros[ROW_SIZE];
    off_t end = lseek(fd, 0, SEEK_END);
    for (off_t at = end - end % ROW_SIZE; at < (off_t)partitions * ROW_SIZE; at += ROW_SIZE)
        if (pwrite(fd, zeros, ROW_SIZE, at) != ROW_SIZE)
            return ERR_IO;
    return end >= 0 && fsync(fd) == 0 ? 0 : ERR_IO;
}

int watermark_open(struct watermark *mark, const char *dir, uint32_t partitions)
{
    char path[DATADIR_PATH_MAX];
    size_t size = (size_t)partitions * ROW_SIZE;
    *mark = (struct watermark){.fd = -1};
    int n = snprintf(path, sizeof path, "%s/WATERMARK", dir);
    if (n <= 0 || n >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return ERR_IO;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return ERR_IO;
    if (fill(fd, partitions) != 0) {
        close(fd);
        return ERR_IO;
    }
    mark->fd = fd;
    mark->rows = xmalloc(size);
    if (pread(fd, mark->rows, size, 0) == (ssize_t)size)
        return 0;
    free(mark->rows);
    close(fd);
    mark->fd = -1;
    return ERR_IO;
}

void watermark_close(struct watermark *mark)
{
    if (mark->fd < 0)
        return;
    watermark_write(mark);
    free(mark->rows);
    if (fdatasync(mark->fd) != 0)
        log_warn("the watermark of the raft log could not be synced");
    close(mark->fd);
    mark->fd = -1;
}

int watermark_get(const struct watermark *mark, uint32_t partition, struct watermark_row *out)
{
    char row[ROW_SIZE];
    static const char zeros[ROW_SIZE];
    if (pread(mark->fd, row, ROW_SIZE, (off_t)partition * ROW_SIZE) != ROW_SIZE)
        return ERR_IO;
    if (memcmp(row, zeros, ROW_SIZE) == 0)
        return ERR_NOT_FOUND;
    if (get_le64(row + 16) != row_sum(row, partition))
        return ERR_CORRUPT;
    *out = (struct watermark_row){get_le64(row), get_le64(row + 8), get_le64(row + 24)};
    return 0;
}

void watermark_put(struct watermark *mark, uint32_t partition, struct watermark_row in)
{
    char *row = mark->rows + (size_t)partition * ROW_SIZE;
    put_le64(row, in.term);
    put_le64(row + 8, in.index);
    put_le64(row + 24, in.cuts);
    put_le64(row + 16, row_sum(row, partition));
    bool none = mark->first == mark->until;
    if (none || partition < mark->first)
        mark->first = partition;
    if (none || partition >= mark->until)
        mark->until = partition + 1;
}

void watermark_write(struct watermark *mark)
{
    if (mark->first == mark->until)
        return;
    off_t at = (off_t)mark->first * ROW_SIZE;
    size_t size = (size_t)(mark->until - mark->first) * ROW_SIZE;
    if (pwrite(mark->fd, mark->rows + at, size, at) != (ssize_t)size)
        log_warn("the watermark of the raft log could not be raised",
                 {"why", log_str(strerror(errno))});
    mark->first = mark->until = 0;
}

void watermark_sync(struct watermark *mark)
{
    uint64_t now_ms = clock_mono_ms();
    if (now_ms - mark->synced_ms < WATERMARK_SYNC_MS)
        return;
    mark->synced_ms = now_ms;
    if (fdatasync(mark->fd) != 0)
        log_warn("the watermark of the raft log could not be synced",
                 {"why", log_str(strerror(errno))});
}
