#include "gateway/origin.h"

#include <stdio.h>
#include <strings.h>

static bool same_text(struct span a, struct span b)
{
    return a.n == b.n && strncasecmp(a.p, b.p, a.n) == 0;
}

/* What stands after "http://" or "https://"; empty when it is neither. */
static struct span host_of(struct span origin)
{
    static const char *const SCHEMES[] = {"https://", "http://"};
    for (size_t i = 0; i < 2; i++) {
        size_t n = strlen(SCHEMES[i]);
        if (origin.n > n && strncasecmp(origin.p, SCHEMES[i], n) == 0)
            return span_of(origin.p + n, origin.n - n);
    }
    return (struct span){0};
}

bool origins_parse(struct origins *origins, const char *text, char *why, size_t size)
{
    origins->count = 0;
    while (*text != '\0') {
        size_t n = strcspn(text, ",");
        struct span one = span_of(text, n), host = host_of(one);
        text += n + (text[n] == ',');
        if (origins->count == ORIGINS_MAX) {
            snprintf(why, size, "more than %d origins", ORIGINS_MAX);
            return false;
        }
        if (host.n == 0 || n >= ORIGIN_SIZE_MAX || memchr(host.p, '/', host.n) != NULL) {
            snprintf(why, size,
                     "\"%.*s\" is no origin; write SCHEME://HOST[:PORT], such as "
                     "https://chat.example",
                     (int)(n < 100 ? n : 100), one.p);
            return false;
        }
        char *to = origins->list[origins->count++];
        memcpy(to, one.p, n);
        to[n] = '\0';
    }
    return true;
}

bool origins_allow(const struct origins *origins, const struct span *origin,
                   const struct span *host)
{
    if (origin == NULL)
        return true;
    for (size_t i = 0; i < origins->count; i++)
        if (same_text(*origin, span_str(origins->list[i])))
            return true;
    if (origins->count > 0 || host == NULL)
        return false;
    struct span of = host_of(*origin);
    return of.n > 0 && same_text(of, *host);
}
