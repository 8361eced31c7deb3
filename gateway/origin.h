/* gateway/origin.h: which web pages may connect (the Origin header of browsers).
 * A request without Origin is from no browser and passes. With no list, a page may connect to the
 * host that it came from. */
#ifndef LOQUAT_GATEWAY_ORIGIN_H
#define LOQUAT_GATEWAY_ORIGIN_H

#include <stddef.h>

#include "store/base/span.h"

enum { ORIGINS_MAX = 64, ORIGIN_SIZE_MAX = 256 };

struct origins {
    char list[ORIGINS_MAX][ORIGIN_SIZE_MAX];
    size_t count; /* 0: the own host */
};

/* "https://a.example,https://b.example:8443". False: `why` says what is wrong. */
bool origins_parse(struct origins *origins, const char *text, char *why, size_t size);
/* `origin` and `host`: header values; origin NULL when absent. */
bool origins_allow(const struct origins *origins, const struct span *origin,
                   const struct span *host);

#endif
