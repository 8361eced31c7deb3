/* tests/faults/slow.c: LD_PRELOAD: a disk that is slow from time to time. Each sync takes as many
 * milliseconds longer as the number in the file SLOW_SYNC says; 0, or no file: none. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void wait_first(void)
{
    const char *path = getenv("SLOW_SYNC");
    FILE *file = path != NULL ? fopen(path, "re") : NULL;
    unsigned ms = 0;
    if (file == NULL)
        return;
    if (fscanf(file, "%u", &ms) == 1 && ms > 0)
        usleep(ms * 1000);
    (void)fclose(file);
}

__attribute__((visibility("default"))) int fdatasync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait_first();
    return real(fd);
}

__attribute__((visibility("default"))) int fsync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    wait_first();
    return real(fd);
}
