#include "tests/lib/measured.h"

#include <stdlib.h>
#include <string.h>

#include "store/base/check.h"
#include "store/base/metrics.h"

int64_t measured(const char *series)
{
    struct buf text = {0};
    buf_add_byte(&text, '\n');
    metrics_write(&text);
    buf_add_byte(&text, '\0');
    size_t n = strlen(series);
    const char *at = text.p;
    while ((at = strstr(at, series)) != NULL && (at[-1] != '\n' || at[n] != ' '))
        at++;
    ASSERT(at != NULL);
    int64_t value = strtoll(at + n, NULL, 10);
    buf_close(&text);
    return value;
}
