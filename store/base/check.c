#include "store/base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void check_failed(const char *file, int line, const char *expr)
{
    fprintf(stderr, "loquat: %s:%d: assertion failed: %s\n", file, line, expr);
    abort();
}

static void *must(void *ptr, size_t size)
{
    if (ptr == NULL) {
        fprintf(stderr, "loquat: out of memory (%zu bytes asked for)\n", size);
        abort();
    }
    return ptr;
}

void *xmalloc(size_t size)
{
    return must(malloc(size > 0 ? size : 1), size);
}

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
