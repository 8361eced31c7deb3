/* gateway/kafka_wire.h: the Kafka protocol as bytes: requests taken apart, answers and record
 * batches put together. Only what readers need, in the versions of KAFKA_APIS; of these only
 * ApiVersions 3 is a flexible one.
 * Frame:  length i32, then so many bytes. Numbers are big-endian.
 * Owner:  what is parsed lies in the caller's arena, its texts in the request's bytes.
 * Pure:   no sockets, no clock. */
#ifndef LOQUAT_GATEWAY_KAFKA_WIRE_H
#define LOQUAT_GATEWAY_KAFKA_WIRE_H

#include "store/base/arena.h"
#include "store/base/buf.h"

/* Produce is refused: librdkafka reads batches only of who says that it takes them, too.
 * X(NAME, key, lowest version, highest, name of the metric) */
#define KAFKA_APIS(X)                                                                              \
    X(PRODUCE, 0, 3, 3, "produce")                                                                 \
    X(FETCH, 1, 4, 4, "fetch")                                                                     \
    X(LIST_OFFSETS, 2, 1, 1, "list_offsets")                                                       \
    X(METADATA, 3, 1, 4, "metadata")                                                               \
    X(OFFSET_COMMIT, 8, 2, 2, "offset_commit")                                                     \
    X(OFFSET_FETCH, 9, 1, 2, "offset_fetch")                                                       \
    X(FIND_COORDINATOR, 10, 0, 0, "find_coordinator")                                              \
    X(JOIN_GROUP, 11, 0, 2, "join_group")                                                          \
    X(HEARTBEAT, 12, 0, 0, "heartbeat")                                                            \
    X(LEAVE_GROUP, 13, 0, 0, "leave_group")                                                        \
    X(SYNC_GROUP, 14, 0, 0, "sync_group")                                                          \
    X(SASL_HANDSHAKE, 17, 0, 1, "sasl_handshake")                                                  \
    X(API_VERSIONS, 18, 0, 3, "api_versions")                                                      \
    X(SASL_AUTHENTICATE, 36, 0, 1, "sasl_authenticate")

enum kafka_api {
#define X(name, key, low, high, label) KAFKA_##name = (key),
    KAFKA_APIS(X)
#undef X
};

/* The protocol's error codes, as far as they are said here. */
enum kafka_err {
    KAFKA_NONE = 0,
    KAFKA_OFFSET_OUT_OF_RANGE = 1,
    KAFKA_UNKNOWN_TOPIC_OR_PARTITION = 3,
    KAFKA_LEADER_NOT_AVAILABLE = 5,
    KAFKA_NOT_LEADER = 6,
    KAFKA_COORDINATOR_NOT_AVAILABLE = 15,
    KAFKA_NOT_COORDINATOR = 16,
    KAFKA_ILLEGAL_GENERATION = 22,
    KAFKA_INCONSISTENT_GROUP_PROTOCOL = 23,
    KAFKA_INVALID_GROUP_ID = 24,
    KAFKA_UNKNOWN_MEMBER_ID = 25,
    KAFKA_INVALID_SESSION_TIMEOUT = 26,
    KAFKA_REBALANCE_IN_PROGRESS = 27,
    KAFKA_TOPIC_AUTHORIZATION_FAILED = 29,
    KAFKA_UNSUPPORTED_SASL_MECHANISM = 33,
    KAFKA_UNSUPPORTED_VERSION = 35,
    KAFKA_STORAGE_ERROR = 56,
    KAFKA_SASL_AUTHENTICATION_FAILED = 58,
    KAFKA_GROUP_MAX_SIZE_REACHED = 81,
};

enum {
    KAFKA_REQUEST_MAX = 1 << 20, /* bytes of a request behind its length */
    KAFKA_REQUEST_MIN = 8,       /* key, version, number */
    KAFKA_PARTS_MAX = 1024,      /* partitions that one request names */
    KAFKA_TOPICS_MAX = 1024,
    KAFKA_PAIRS_MAX = 256, /* protocols of a member; assignments */
    KAFKA_TIME_LATEST = -1,
    KAFKA_TIME_EARLIEST = -2,
};

struct kafka_part {
    int32_t p;
    int64_t offset;    /* or a time, of ListOffsets */
    int32_t max_bytes; /* of Fetch */
};
struct kafka_topic {
    struct span name;
    struct kafka_part *parts;
    size_t count;
};
struct kafka_pair { /* a protocol and its metadata, a member and its assignment */
    struct span name, bytes;
};

/* Fields that the request's api does not have are zero. */
struct kafka_request {
    int16_t api, version;
    int32_t number; /* that the answer names */
    struct span client;
    struct kafka_topic *topics;
    size_t topic_count;
    bool all_topics;
    struct span group, member, protocol_type;
    int32_t generation, session_ms, rebalance_ms;
    struct kafka_pair *pairs;
    size_t pair_count;
    int32_t wait_ms, min_bytes, max_bytes;
    int16_t acks;     /* of Produce; 0: no answer is wanted */
    struct span sasl; /* the mechanism, or what it says */
};

/* Of a whole request behind its length. False: it is malformed, or of an api or a version that is
 * not spoken; api, version and number are there if there were bytes for them. */
bool kafka_parse(struct span bytes, struct arena *arena, struct kafka_request *request);
bool kafka_speaks(int16_t api, int16_t version);
/* What SASL/PLAIN says: [who] NUL user NUL password. False: it does not. */
bool kafka_plain(struct span bytes, struct span *password);

/* ---- answers ---- */

void kafka_i8(struct buf *out, int8_t v);
void kafka_i16(struct buf *out, int16_t v);
void kafka_i32(struct buf *out, int32_t v);
void kafka_i64(struct buf *out, int64_t v);
void kafka_text(struct buf *out, struct span text);
void kafka_no_text(struct buf *out);
void kafka_bytes(struct buf *out, struct span bytes);
/* A length i32 that is known later: where it is; and now it is known. */
size_t kafka_length(struct buf *out);
void kafka_length_is(struct buf *out, size_t at);
/* The body of ApiVersions: what is spoken. */
void kafka_say_versions(struct buf *out, int16_t version, int16_t err);

/* ---- a record batch of format 2 ---- */

struct kafka_batch {
    struct buf *out;
    size_t at; /* where it begins */
    uint64_t first, last;
    int64_t first_ms, max_ms;
    int32_t count;
    struct buf record; /* in work */
};
void kafka_batch_begin(struct kafka_batch *batch, struct buf *out);
/* Offsets rise, and are less than 2^31 behind the first; false: not this one, end the batch. */
bool kafka_batch_add(struct kafka_batch *batch, uint64_t offset, int64_t ms, struct span key,
                     struct span value);
/* How many bytes it has now. */
size_t kafka_batch_bytes(const struct kafka_batch *batch);
void kafka_batch_end(struct kafka_batch *batch); /* one without records is nothing */

uint32_t kafka_crc32c(struct span bytes);

#endif
