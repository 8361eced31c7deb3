#include "store/base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/err.h"

enum { CHUNK = 4096, LIMIT_UNKNOWN = 1024, PATH_ROOM = 4352 };

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

static int failed(void)
{
    return errno == ENOSPC || errno == EDQUOT ? ERR_NO_SPACE : ERR_IO;
}

static int write_synced(const char *path, struct span bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return failed();
    errno = EIO; /* of a write that was not whole */
    int err = write(fd, bytes.p, bytes.n) == (ssize_t)bytes.n && fsync(fd) == 0 ? 0 : failed();
    return close(fd) == 0 || err != 0 ? err : failed();
}

int file_sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return failed();
    int err = fsync(fd) == 0 ? 0 : failed();
    close(fd);
    return err;
}

int file_replace(const char *path, struct span bytes)
{
    char temporary[PATH_ROOM], parent[PATH_ROOM];
    const char *slash = strrchr(path, '/');
    int n = snprintf(temporary, sizeof temporary, "%s.tmp", path);
    if (n < 0 || (size_t)n >= sizeof temporary)
        return ERR_TOO_LARGE;
    snprintf(parent, sizeof parent, "%.*s", slash != NULL ? (int)(slash - path + 1) : 1,
             slash != NULL ? path : ".");
    int err = write_synced(temporary, bytes);
    if (err == 0 && rename(temporary, path) != 0)
        err = failed();
    return err == 0 ? file_sync_directory(parent) : err;
}

void file_empty_directory(const char *path)
{
    DIR *list = opendir(path);
    if (list == NULL)
        return;
    for (struct dirent *at; (at = readdir(list)) != NULL;)
        if (at->d_name[0] != '.')
            (void)unlinkat(dirfd(list), at->d_name, 0);
    closedir(list);
}

void file_remove_directory(const char *path)
{
    file_empty_directory(path);
    (void)rmdir(path);
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
