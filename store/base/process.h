/* store/base/process.h: what the system says of this process, under the names that Prometheus's
 * clients have for it: processor, memory, descriptors, when it started.
 * Thread: the main one, at start. The values are asked for where metrics are written. */
#ifndef LOQUAT_BASE_PROCESS_H
#define LOQUAT_BASE_PROCESS_H

void process_metrics(void); /* any number of times */

#endif
