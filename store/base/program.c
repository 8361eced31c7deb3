#include "store/base/program.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/base/log.h"
#include "store/base/memory.h"
#include "store/base/output.h"

static const char *name = "loquat";

bool program_begin(const char *program, bool quits)
{
    name = program;
    memory_must();
    check_explain_aborts(program, quits);
    return output_begin(program);
}

void program_ready(const char *listen)
{
    printf("ready listen=%s\n", listen);
    if (!output_finish(name))
        log_fatal("the line that says it is ready could not be written", "");
}

_Noreturn void program_usage(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s%s\nTry `%s --help'.\n", name, what, why, name);
    exit(EXIT_USAGE);
}

_Noreturn void program_fail(const char *why)
{
    fprintf(stderr, "%s: %s\n", name, why);
    exit(EXIT_FAILURE);
}
