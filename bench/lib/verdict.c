#include "bench/lib/verdict.h"

#include <stdarg.h>
#include <stdio.h>

#include "bench/lib/measure.h"

static unsigned passed, failed;

void verdict(bool fine, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("%s", fine ? "ok    " : "FAIL  ");
    vprintf(format, args);
    va_end(args);
    printf("\n");
    if (fflush(stdout) != 0)
        bench_fail("the verdict can't be written");
    *(fine ? &passed : &failed) += 1;
}

int verdicts_end(void)
{
    printf("%u passed, %u failed\n", passed, failed);
    return failed == 0 ? 0 : 1;
}
