#include "tests/lib/rivals.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>

#include "store/base/check.h"

enum { RIVALS = 3 };

static bool over;

static void *be_busy(void *arg)
{
    (void)arg;
    while (!__atomic_load_n(&over, __ATOMIC_RELAXED))
        ;
    return NULL;
}

void beside_rivals(void (*then)(void))
{
    cpu_set_t one;
    pthread_t rivals[RIVALS];
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    int rv = sched_setaffinity(0, sizeof one, &one);
    ASSERT(rv == 0);
    __atomic_store_n(&over, false, __ATOMIC_RELAXED);
    for (int i = 0; i < RIVALS; i++) {
        rv = pthread_create(&rivals[i], NULL, be_busy, NULL);
        ASSERT(rv == 0);
    }
    then();
    __atomic_store_n(&over, true, __ATOMIC_RELAXED);
    for (int i = 0; i < RIVALS; i++)
        pthread_join(rivals[i], NULL);
}
