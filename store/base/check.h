/* store/base/check.h: assertions that stay on in release builds.
 * For our own mistakes only: never for input, disk or peers. */
#ifndef LOQUAT_BASE_CHECK_H
#define LOQUAT_BASE_CHECK_H

#include <stddef.h>

#ifdef __cplusplus
#define NORETURN [[noreturn]]
#else
#define NORETURN _Noreturn
#endif

NORETURN void check_failed(const char *file, int line, const char *expr);

#define ASSERT(expr) ((expr) ? (void)0 : check_failed(__FILE__, __LINE__, #expr))

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Memory: a server that can't get a small block has no sane way on, so these end the process with
 * a message. Sizes that come from outside are bounded before they get here. */
void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *ptr, size_t size);
char *xstrdup(const char *text);

#endif
