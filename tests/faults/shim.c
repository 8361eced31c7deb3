/* tests/faults/shim.c: LD_PRELOAD: the N-th call of a class fails. What calls the shim itself does
 * not see is given in the environment of the program, or by fault_arm from within one:
 *   FAULT_CLASS  alloc, open, read, write, sync, rename, close, socket, accept, map, thread
 *   FAULT_AT     N: the first call that fails; they are counted from 1
 *   FAULT_TIMES  so many calls in a row fail; 1 by default, 0: all from then on
 *   FAULT_ERRNO  a number; 0 in the classes read and write: half of what was asked for is done
 *   FAULT_FROM   which callers count, by the object that the call returns to: `main` is the program
 *                itself, other names begin a library's file name; `main` by default
 *   FAULT_NOTE   a file that gets a line when the N-th call was reached: who called what
 * Callers are chosen because RocksDB and libstdc++ allocate through the same functions and answer
 * with bad_alloc, for which there is no way on; what is looked at is how our code takes it.
 * glibc's stdio calls the kernel without passing here: a stream's descriptor becomes /dev/full
 * at the N-th write of a stream, and stays that, as a full disk does. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <netdb.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/faults/shim.h"

#define SHOWN __attribute__((visibility("default")))
#define CALLER __builtin_return_address(0)

enum { RANGES_MAX = 64 };

static struct {
    char class[16];
    unsigned long at, times;
    int err;
    char note[256];
    struct {
        uintptr_t from, until;
    } ranges[RANGES_MAX];
    size_t range_count;
} fault;

static atomic_ulong calls;

/* ---- who counts ---- */

static bool listed(const char *list, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = *path == 0 ? "main" : slash != NULL ? slash + 1 : path;
    while (*list != 0) {
        size_t n = strcspn(list, ",");
        if (n > 0 && strncmp(name, list, n) == 0)
            return true;
        list += n + (list[n] == ',');
    }
    return false;
}

static int add_object(struct dl_phdr_info *info, size_t size, void *list)
{
    (void)size;
    for (int i = 0; listed(list, info->dlpi_name) && i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_X) || fault.range_count == RANGES_MAX)
            continue;
        uintptr_t from = info->dlpi_addr + part->p_vaddr;
        fault.ranges[fault.range_count].from = from;
        fault.ranges[fault.range_count++].until = from + part->p_memsz;
    }
    return 0;
}

static bool counts(const void *caller)
{
    uintptr_t at = (uintptr_t)caller;
    for (size_t i = 0; i < fault.range_count; i++)
        if (at >= fault.ranges[i].from && at < fault.ranges[i].until)
            return true;
    return false;
}

/* ---- the N-th call ---- */

SHOWN void fault_arm(const char *class, unsigned long at, unsigned long times, int err,
                     const char *from)
{
    fault.range_count = 0; /* nothing counts while this is filled in */
    snprintf(fault.class, sizeof fault.class, "%s", class);
    fault.at = at;
    fault.times = times;
    fault.err = err;
    atomic_store(&calls, 0);
    dl_iterate_phdr(add_object, (void *)from);
}

SHOWN unsigned long fault_calls(void)
{
    return atomic_load(&calls);
}

static unsigned long number(const char *name, unsigned long missing)
{
    const char *text = getenv(name);
    return text != NULL ? strtoul(text, NULL, 10) : missing;
}

__attribute__((constructor)) static void begin(void)
{
    const char *class = getenv("FAULT_CLASS"), *from = getenv("FAULT_FROM");
    const char *file = getenv("FAULT_NOTE");
    if (class == NULL)
        return;
    snprintf(fault.note, sizeof fault.note, "%s", file != NULL ? file : "");
    fault_arm(class, number("FAULT_AT", 1), number("FAULT_TIMES", 1),
              (int)number("FAULT_ERRNO", EIO), from != NULL ? from : "main");
}

/* By the kernel's calls, which do not come back here. */
static void note(const char *function, const void *caller)
{
    Dl_info info;
    char line[512];
    if (fault.note[0] == 0)
        return;
    bool known = dladdr(caller, &info) != 0;
    int n = snprintf(line, sizeof line, "%s %s %#lx\n", function, known ? info.dli_fname : "?",
                     known ? (unsigned long)((uintptr_t)caller - (uintptr_t)info.dli_fbase) : 0);
    long fd = syscall(SYS_openat, AT_FDCWD, fault.note, O_WRONLY | O_CREAT | O_APPEND, 0600);
    syscall(SYS_write, fd, line, n);
    syscall(SYS_close, fd);
}

/* True: this call fails, with errno set. */
static bool hit(const char *class, const char *function, const void *caller)
{
    if (!counts(caller) || strcmp(fault.class, class) != 0)
        return false;
    unsigned long n = atomic_fetch_add(&calls, 1) + 1;
    if (n < fault.at || (fault.times != 0 && n >= fault.at + fault.times))
        return false;
    if (n == fault.at)
        note(function, caller);
    errno = fault.err;
    return true;
}

#define HIT(class, function) hit(class, function, CALLER)
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static size_t less(size_t n)
{
    return n > 1 ? n / 2 : n;
}

/* ---- memory ---- */

/* Looked up once: they are called often. The look-up does not allocate where it finds something. */
#define NEXT_ONCE(name)                                                                            \
    static __typeof__(&name) next;                                                                 \
    next = next != NULL ? next : NEXT(name)

static void *next_malloc(size_t size)
{
    NEXT_ONCE(malloc);
    return next(size);
}

SHOWN void *malloc(size_t size)
{
    return HIT("alloc", "malloc") ? NULL : next_malloc(size);
}

SHOWN void *calloc(size_t count, size_t size)
{
    NEXT_ONCE(calloc);
    return HIT("alloc", "calloc") ? NULL : next(count, size);
}

SHOWN void *realloc(void *ptr, size_t size)
{
    NEXT_ONCE(realloc);
    return HIT("alloc", "realloc") ? NULL : next(ptr, size);
}

SHOWN char *strdup(const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy = HIT("alloc", "strdup") ? NULL : next_malloc(n);
    return copy != NULL ? memcpy(copy, text, n) : NULL;
}

/* C++: `new (std::nothrow)` of one and of several. */
SHOWN void *_ZnwmRKSt9nothrow_t(size_t size, const void *tag);
SHOWN void *_ZnamRKSt9nothrow_t(size_t size, const void *tag);

SHOWN void *_ZnwmRKSt9nothrow_t(size_t size, const void *tag)
{
    NEXT_ONCE(_ZnwmRKSt9nothrow_t);
    return HIT("alloc", "new") ? NULL : next(size, tag);
}

SHOWN void *_ZnamRKSt9nothrow_t(size_t size, const void *tag)
{
    NEXT_ONCE(_ZnamRKSt9nothrow_t);
    return HIT("alloc", "new[]") ? NULL : next(size, tag);
}

SHOWN void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    return HIT("map", "mmap") ? MAP_FAILED : NEXT(mmap)(at, n, protection, flags, fd, offset);
}

SHOWN int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
                         void *arg)
{
    return HIT("thread", "pthread_create") ? errno : NEXT(pthread_create)(thread, attr, run, arg);
}

/* ---- descriptors ---- */

static mode_t mode_of(int flags, va_list args)
{
    bool makes = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE;
    return makes ? va_arg(args, mode_t) : 0;
}

#define OPEN(name, parameters, dir)                                                                \
    SHOWN int name parameters                                                                      \
    {                                                                                              \
        va_list args;                                                                              \
        va_start(args, flags);                                                                     \
        mode_t mode = mode_of(flags, args);                                                        \
        va_end(args);                                                                              \
        return HIT("open", #name) ? -1 : (int)syscall(SYS_openat, dir, path, flags, mode);         \
    }
OPEN(open, (const char *path, int flags, ...), AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD)
OPEN(openat, (int dir_fd, const char *path, int flags, ...), dir_fd)

/* RESULT NAME(PARAMETERS), which calls itself with ARGS unless it is the N-th of the class. */
#define FAILS(class, failed, type, name, parameters, args)                                         \
    SHOWN type name parameters                                                                     \
    {                                                                                              \
        return HIT(class, #name) ? failed : NEXT(name) args;                                       \
    }
FAILS("open", NULL, FILE *, fopen, (const char *path, const char *mode), (path, mode))
FAILS("open", NULL, DIR *, opendir, (const char *path), (path))
FAILS("open", -1, int, dup, (int fd), (fd))
FAILS("open", -1, int, epoll_create1, (int flags), (flags))
FAILS("open", -1, int, eventfd, (unsigned n, int flags), (n, flags))
FAILS("open", -1, int, pipe2, (int fds[2], int flags), (fds, flags))
FAILS("sync", -1, int, fsync, (int fd), (fd))
FAILS("sync", -1, int, fdatasync, (int fd), (fd))
FAILS("sync", -1, int, ftruncate, (int fd, off_t size), (fd, size))
FAILS("sync", -1, int, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n))
FAILS("rename", -1, int, rename, (const char *from, const char *to), (from, to))
FAILS("rename", -1, int, renameat, (int from_fd, const char *from, int to_fd, const char *to),
      (from_fd, from, to_fd, to))
FAILS("rename", -1, int, unlinkat, (int dir_fd, const char *path, int flags), (dir_fd, path, flags))
FAILS("rename", -1, int, mkdir, (const char *path, mode_t mode), (path, mode))
FAILS("socket", -1, int, socket, (int domain, int type, int protocol), (domain, type, protocol))
FAILS("socket", -1, int, socketpair, (int domain, int type, int protocol, int fds[2]),
      (domain, type, protocol, fds))
FAILS("socket", -1, int, setsockopt,
      (int fd, int level, int name, const void *value, socklen_t size),
      (fd, level, name, value, size))
FAILS("socket", -1, int, bind, (int fd, const struct sockaddr *at, socklen_t size), (fd, at, size))
FAILS("socket", -1, int, listen, (int fd, int backlog), (fd, backlog))
FAILS("socket", -1, int, connect, (int fd, const struct sockaddr *to, socklen_t size),
      (fd, to, size))
FAILS("socket", EAI_SYSTEM, int, getaddrinfo,
      (const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **found),
      (host, port, hints, found))
FAILS("accept", -1, int, accept4, (int fd, struct sockaddr *from, socklen_t *size, int flags),
      (fd, from, size, flags))

/* The descriptor is free again all the same, as Linux has it. */
SHOWN int close(int fd)
{
    bool fails = HIT("close", "close");
    int rv = (int)syscall(SYS_close, fd);
    errno = fails ? fault.err : errno;
    return fails ? -1 : rv;
}

/* ---- bytes ---- */

#define MOVES(class, name, parameters, args, n)                                                    \
    SHOWN ssize_t name parameters                                                                  \
    {                                                                                              \
        if (HIT(class, #name)) {                                                                   \
            if (fault.err != 0)                                                                    \
                return -1;                                                                         \
            n = less(n);                                                                           \
        }                                                                                          \
        return NEXT(name) args;                                                                    \
    }
MOVES("read", read, (int fd, void *to, size_t n), (fd, to, n), n)
MOVES("read", pread, (int fd, void *to, size_t n, off_t at), (fd, to, n, at), n)
MOVES("read", recv, (int fd, void *to, size_t n, int flags), (fd, to, n, flags), n)
MOVES("read", recvmsg, (int fd, struct msghdr *msg, int flags), (fd, msg, flags), msg->msg_iovlen)
MOVES("write", write, (int fd, const void *from, size_t n), (fd, from, n), n)
MOVES("write", pwrite, (int fd, const void *from, size_t n, off_t at), (fd, from, n, at), n)
MOVES("write", writev, (int fd, const struct iovec *iov, int n), (fd, iov, n), n)

SHOWN ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    struct msghdr some = *msg;
    struct iovec first;
    if (HIT("write", "sendmsg")) {
        if (fault.err != 0)
            return -1;
        first = msg->msg_iov[0];
        first.iov_len = less(first.iov_len);
        some.msg_iov = &first;
        some.msg_iovlen = 1;
    }
    return NEXT(sendmsg)(fd, &some, flags);
}

/* ---- streams ---- */

static void fill(FILE *stream)
{
    long full = syscall(SYS_openat, AT_FDCWD, "/dev/full", O_WRONLY, 0);
    syscall(SYS_dup3, full, fileno(stream), O_CLOEXEC);
    syscall(SYS_close, full);
}

SHOWN size_t fwrite(const void *from, size_t size, size_t n, FILE *stream)
{
    if (stream != stderr && HIT("write", "fwrite"))
        fill(stream);
    return NEXT(fwrite)(from, size, n, stream);
}

SHOWN int fflush(FILE *stream)
{
    if (stream != NULL && stream != stderr && HIT("write", "fflush"))
        fill(stream);
    return NEXT(fflush)(stream);
}

SHOWN int fclose(FILE *stream)
{
    if (HIT("write", "fclose"))
        fill(stream);
    return NEXT(fclose)(stream);
}
