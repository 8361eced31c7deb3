#include "store/base/check.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Assertions are on in every build, and evaluate what they assert once. */
Test(check, assertion_that_holds_is_evaluated_once)
{
    int count = 0;
    ASSERT(++count == 1);
    cr_assert(eq(int, count, 1));
}

Test(check, assertion_that_fails_aborts, .signal = SIGABRT)
{
    ASSERT(1 + 1 == 3);
}

#if !defined(SANITIZED)
void *new_array(size_t size) __asm__("_Znam");

static size_t pages_there(const char *block, size_t size, size_t page)
{
    unsigned char there[1 << 10];
    size_t count = size / page, sum = 0;
    cr_assert(le(sz, count, sizeof there));
    cr_assert(zero(int, mincore((void *)block, size, there)));
    for (size_t i = 0; i < count; i++)
        sum += there[i] & 1;
    return sum;
}

/* What libraries in C++ ask for: large blocks have their memory at once. */
Test(check, large_arrays_of_libraries_have_their_pages)
{
    enum { SIZE = 2 << 20 };
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *small = new_array(1), *large = new_array(SIZE);
    char *from = large + (size_t)(-(uintptr_t)large % page);
    memset(small, 1, 1);
    cr_assert(eq(sz, pages_there(from, SIZE - page, page), SIZE / page - 1));
    char *bare = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(zero(sz, pages_there(bare, SIZE, page))); /* or the look says nothing */
    munmap(bare, SIZE);
    free(small);
    free(large);
}
#endif

/* Nothing asked for is a block all the same: NULL would look like a failure. */
Test(check, blocks_of_any_size)
{
    static const unsigned char ZEROS[24] = {0};
    char *none = xmalloc(0), *some = xcalloc(3, 8), *empty = xcalloc(0, 8);
    cr_assert(ne(ptr, none, NULL));
    cr_assert(ne(ptr, empty, NULL));
    cr_assert(eq(int, memcmp(some, ZEROS, 24), 0));
    memcpy(some, "grown", 6);
    some = xrealloc(some, 100000);
    cr_assert(eq(str, some, "grown"));
    none = xrealloc(none, 0);
    cr_assert(ne(ptr, none, NULL));
    char *copy = xstrdup("text");
    cr_assert(eq(str, copy, "text"));
    free(none);
    free(some);
    free(empty);
    free(copy);
}

/* Runs `run` in a process of its own: its status, or -SIGNAL; and what it says. */
static int ended(void (*run)(void), char said[256])
{
    int ends[2], status = 0;
    cr_assert(eq(int, pipe(ends), 0));
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        run();
        _exit(0);
    }
    close(ends[1]);
    ssize_t n = read(ends[0], said, 255);
    said[n > 0 ? n : 0] = 0;
    close(ends[0]);
    cr_assert(eq(int, waitpid(pid, &status, 0), pid));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void lack_memory(void)
{
    check_no_memory(7);
}

/* Nobody's mistake: a message and 1, no core. */
Test(check, no_memory_ends_with_one)
{
    char said[256];
    cr_assert(eq(int, ended(lack_memory, said), 1));
    cr_assert(ne(ptr, strstr(said, "out of memory (7 bytes asked for)"), NULL), "%s", said);
}

static void abort_as_a_tool(void)
{
    check_explain_aborts("tool", true);
    abort();
}

static void abort_as_a_server(void)
{
    check_explain_aborts("server", false);
    abort();
}

static void fail_as_a_tool(void)
{
    check_explain_aborts("tool", true);
    ASSERT(1 + 1 == 3);
}

/* A library's abort is explained; a tool leaves no core of it, a server does. An assertion of ours
 * explains itself and leaves one everywhere. */
Test(check, aborts_are_explained)
{
    char said[256];
    cr_assert(eq(int, ended(abort_as_a_tool, said), 1));
    cr_assert(eq(int, strncmp(said, "tool: a library gave up: ", 25), 0), "%s", said);
    cr_assert(eq(int, ended(abort_as_a_server, said), -SIGABRT));
    cr_assert(eq(int, strncmp(said, "server: a library gave up: ", 27), 0), "%s", said);
    cr_assert(eq(int, ended(fail_as_a_tool, said), -SIGABRT));
    cr_assert(eq(ptr, strstr(said, "a library gave up"), NULL), "%s", said);
}

struct outer {
    int before, inner;
};

Test(check, container_of_a_member)
{
    struct outer outer;
    cr_assert(eq(ptr, container_of(&outer.inner, struct outer, inner), &outer));
}
