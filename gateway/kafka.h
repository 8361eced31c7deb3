/* gateway/kafka.h: the Kafka protocol for readers (docs/PROTOCOL.md): clients of Kafka read feeds
 * as the topic KAFKA_TOPIC, alone or in groups, whose committed offsets are those of consumers.
 * Thread: a thread and a loop of its own. kafka_start, kafka_stop: the main thread. */
#ifndef LOQUAT_GATEWAY_KAFKA_H
#define LOQUAT_GATEWAY_KAFKA_H

#include "store/base/address.h"

#define KAFKA_TOPIC "loquat.records"

struct settings;
struct kafka;

/* `fd` listens; `advertise`: where clients are told to connect. */
struct kafka *kafka_start(struct settings *settings, int fd, const struct address *advertise);
void kafka_stop(struct kafka *kafka); /* ended and freed */
void kafka_metrics(void);             /* registers; once, and only where Kafka is spoken */

#endif
