#include "store/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/err.h"

enum { CHUNK = 4096, LIMIT_UNKNOWN = 1024 };

static int read_all(int fd, size_t max, struct buf *out)
{
    size_t total = 0;
    for (;;) {
        buf_reserve(out, CHUNK);
        ssize_t got = read(fd, out->p + out->n, CHUNK);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got == 0 ? 0 : ERR_IO;
        out->n += (size_t)got;
        total += (size_t)got;
        if (total > max)
            return ERR_TOO_LARGE;
    }
}

int file_read(const char *path, size_t max, struct buf *out, unsigned *mode)
{
    size_t before = out->n;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ERR_IO;
    struct stat st;
    int err = fstat(fd, &st) == 0 ? read_all(fd, max, out) : ERR_IO;
    if (err != 0)
        out->n = before;
    else if (mode != NULL)
        *mode = st.st_mode & 07777;
    int saved = errno;
    close(fd);
    errno = saved;
    return err;
}

uint64_t file_limit_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return LIMIT_UNKNOWN;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 && getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return LIMIT_UNKNOWN;
    return limit.rlim_cur;
}
