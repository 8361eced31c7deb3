/* store/base/check.h: assertions that stay on in release builds.
 * For our own mistakes only: never for input, disk or peers. */
#ifndef LOQUAT_BASE_CHECK_H
#define LOQUAT_BASE_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
#define NORETURN [[noreturn]]
#else
#define NORETURN _Noreturn
#endif

NORETURN void check_failed(const char *file, int line, const char *expr);

#define ASSERT(expr) ((expr) ? (void)0 : check_failed(__FILE__, __LINE__, #expr))

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Settings of the allocator. */
extern const char *malloc_conf;

/* Memory: a program that can't get a small block has no sane way on, so these end the process with
 * a message and status 1: no core, it is nobody's mistake. What was synced is there at the next
 * start, and files stand under their names only when they are whole. Sizes that come from outside
 * are bounded before they get here. */
void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *ptr, size_t size);
char *xstrdup(const char *text);
/* For what a library could not allocate. Size 0: it does not say how much. */
NORETURN void check_no_memory(size_t size);

/* libuv aborts without a word when it gets no thread or descriptor deep inside, and C++ when an
 * exception is caught by nobody. From here on an abort that is not an assertion's is explained
 * on standard error; with `quits` the process then ends with status 1, as for tools, where a core
 * says nothing more. Before there are threads. */
void check_explain_aborts(const char *program, bool quits);

#endif
