#include "bench/lib/kernel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/lib/measure.h"

static double read_number(const char *path, const char *line_head, const char *name)
{
    char line[256];
    double value = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        bench_fail("%s can't be read", path);
    while (fgets(line, sizeof line, file) != NULL) {
        const char *at =
            strncmp(line, line_head, strlen(line_head)) == 0 ? strstr(line, name) : NULL;
        if (at != NULL)
            value = strtod(at + strlen(name), NULL);
    }
    int closed = fclose(file);
    ASSERT(closed == 0); /* it was only read */
    return value;
}

struct kernel kernel_now(void)
{
    return (struct kernel){read_number("/proc/meminfo", "Slab:", "Slab:") * 1024,
                           read_number("/proc/net/sockstat", "TCP:", " mem ") * 4096};
}
