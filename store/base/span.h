/* store/base/span.h: a borrowed slice of bytes. Never owns, need not end with NUL. */
#ifndef LOQUAT_BASE_SPAN_H
#define LOQUAT_BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
    const char *p;
    size_t n;
};

static inline struct span span_of(const void *p, size_t n)
{
    return (struct span){(const char *)p, n};
}

static inline struct span span_str(const char *text)
{
    return (struct span){text, text != NULL ? strlen(text) : 0};
}

static inline bool span_eq(struct span a, struct span b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline int span_cmp(struct span a, struct span b) /* as bytes; a shorter one comes first */
{
    size_t n = a.n < b.n ? a.n : b.n;
    int order = n > 0 ? memcmp(a.p, b.p, n) : 0;
    return order != 0 ? order : (a.n > b.n) - (a.n < b.n);
}

static inline bool span_is(struct span a, const char *text)
{
    return span_eq(a, span_str(text));
}

#endif
