#include "store/base/check.h"

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { BLOCK_BYTES = 1 << 18 };

_Noreturn void check_failed(const char *file, int line, const char *expr)
{
    fprintf(stderr, "loquat: %s:%d: assertion failed: %s\n", file, line, expr);
    (void)signal(SIGABRT, SIG_DFL);
    abort();
}

void check_no_memory(size_t size)
{
    if (size > 0)
        fprintf(stderr, "loquat: out of memory (%zu bytes asked for)\n", size);
    else
        fprintf(stderr, "loquat: out of memory\n");
    _exit(EXIT_FAILURE); /* nothing of it may run on: not what exit calls either */
}

static struct {
    char text[160];
    size_t n;
    bool quits;
} explained;

static void on_abort(int signal_number)
{
    (void)signal_number;
    ssize_t written = write(STDERR_FILENO, explained.text, explained.n);
    (void)written; /* nowhere is left to say that it failed */
    if (explained.quits)
        _exit(EXIT_FAILURE);
}

void check_explain_aborts(const char *program, bool quits)
{
    snprintf(explained.text, sizeof explained.text,
             "%s: a library gave up: out of memory, threads or file descriptors?\n", program);
    explained.n = strlen(explained.text);
    explained.quits = quits;
    struct sigaction action = {.sa_handler = on_abort, .sa_flags = (int)SA_RESETHAND};
    int rv = sigaction(SIGABRT, &action, NULL);
    ASSERT(rv == 0);
}

/* Read by jemalloc when it begins. What is free goes back to the system after 10 s, by a thread of
 * its own, whoever had it; four arenas hold less that is free than four for each core. */
__attribute__((visibility("default"))) const char *malloc_conf = "background_thread:true,narenas:4";

static void *must(void *ptr, size_t size)
{
    if (ptr == NULL)
        check_no_memory(size);
    return ptr;
}

void *xmalloc(size_t size)
{
    return must(malloc(size > 0 ? size : 1), size);
}

#if !defined(SANITIZED) /* sanitizers have their own */
/* `new char[size]` of libraries in C++, as a program may replace it: what RocksDB asks for so are
 * the blocks of its memtables, 1 MiB each. Their pages come all at once instead of by a fault each,
 * which is 0.8 µs a page instead of 15 on a virtual machine whose host has to hear of each; before
 * it a fifth of the apply thread's time. Where Linux is older than 5.14 they come by faults. */
__attribute__((visibility("default"))) void *new_array(size_t size) __asm__("_Znam");
void *new_array(size_t size)
{
    char *block = xmalloc(size);
    if (size >= BLOCK_BYTES) {
        size_t page = (size_t)sysconf(_SC_PAGESIZE), head = (size_t)(-(uintptr_t)block % page);
        (void)madvise(block + head, (size - head) / page * page, MADV_POPULATE_WRITE);
    }
    return block;
}
#endif

void *xcalloc(size_t count, size_t size)
{
    return must(calloc(count > 0 ? count : 1, size > 0 ? size : 1), size);
}

void *xrealloc(void *ptr, size_t size)
{
    return must(realloc(ptr, size > 0 ? size : 1), size);
}

char *xstrdup(const char *text)
{
    size_t size = strlen(text) + 1;
    return memcpy(xmalloc(size), text, size);
}
