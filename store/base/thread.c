#include "store/base/thread.h"

#include <string.h>

#include "store/base/log.h"

void thread_start(pthread_t *thread, const char *name, void *(*run)(void *arg), void *arg)
{
    int rv = pthread_create(thread, NULL, run, arg);
    if (rv != 0)
        log_fatal("no thread could be made", strerror(rv));
    (void)pthread_setname_np(*thread, name);
}
