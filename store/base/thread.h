/* store/base/thread.h: threads that a program can't do without.
 * Thread: any. */
#ifndef LOQUAT_BASE_THREAD_H
#define LOQUAT_BASE_THREAD_H

#include <pthread.h>

/* Runs `run(arg)`. `name`: at most 15 bytes, for top -H and perf. Ends the process with a message
 * when the system gives no thread (a limit on processes, no memory): what waits for it would wait
 * for good. */
void thread_start(pthread_t *thread, const char *name, void *(*run)(void *arg), void *arg);

#endif
