#include "store/base/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *program_name;

bool output_finish(const char *name)
{
    static bool said;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return true;
    if (!said)
        fprintf(stderr, "%s: cannot write to standard output: %s\n", name, strerror(errno));
    said = true;
    return false;
}

static void output_on_exit(void)
{
    if (!output_finish(program_name))
        _exit(EXIT_FAILURE);
}

bool output_begin(const char *program)
{
    program_name = program;
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
            continue;
        /* The lowest that is free, hence this one; opened the wrong way round. */
        int taken = open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
        if (taken != fd)
            return false;
    }
    return atexit(output_on_exit) == 0;
}
