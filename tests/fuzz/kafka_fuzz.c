/* Requests of Kafka clients: whatever the bytes, what is parsed lies in them, within its bounds,
 * and is of a version that is spoken; a request with a byte less is none. */
#include <stdlib.h>

#include "gateway/kafka_wire.h"
#include "store/base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t sum; /* so that what is named is read */

static void inside(struct span part, struct span all)
{
    ASSERT(part.n == 0 || (part.p >= all.p && part.p + part.n <= all.p + all.n));
    for (size_t i = 0; i < part.n; i++)
        sum += (uint8_t)part.p[i];
}

static void check_topics(const struct kafka_request *request, struct span all)
{
    size_t parts = 0;
    ASSERT(request->topic_count <= KAFKA_TOPICS_MAX);
    ASSERT(!request->all_topics || request->topic_count == 0);
    for (size_t i = 0; i < request->topic_count; i++) {
        inside(request->topics[i].name, all);
        parts += request->topics[i].count;
        for (size_t j = 0; j < request->topics[i].count; j++)
            sum += (size_t)request->topics[i].parts[j].p;
    }
    ASSERT(parts <= KAFKA_PARTS_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct kafka_request request, other;
    struct span all = span_of(data, size), password;
    arena_init(&arena);
    if (kafka_plain(all, &password))
        inside(password, all);
    if (kafka_parse(all, &arena, &request)) {
        ASSERT(kafka_speaks(request.api, request.version));
        inside(request.client, all);
        inside(request.group, all);
        inside(request.member, all);
        inside(request.protocol_type, all);
        inside(request.sasl, all);
        check_topics(&request, all);
        ASSERT(request.pair_count <= KAFKA_PAIRS_MAX);
        for (size_t i = 0; i < request.pair_count; i++) {
            inside(request.pairs[i].name, all);
            inside(request.pairs[i].bytes, all);
        }
        bool open = request.api == KAFKA_API_VERSIONS && request.version >= 3;
        ASSERT(open || !kafka_parse(span_of(data, size - 1), &arena, &other));
    }
    arena_close(&arena);
    return 0;
}
