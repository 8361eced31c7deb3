#include "replication/rcore_conf.h"

#include <string.h>

#include "replication/rcore.h"
#include "store/base/buf.h"
#include "store/base/check.h"

/* The library takes what the bytes announce without looking at how many there are. Its layout:
 * version u8, count u64 LE; of each server id u64 LE, address and NUL, role u8; then zeros up to a
 * multiple of 8. */
static bool complete(struct span bytes)
{
    enum { VERSION = 1, HEAD_SIZE = 9, ID_SIZE = 8, PAD = 8 };
    if (bytes.n < HEAD_SIZE || bytes.p[0] != VERSION)
        return false;
    uint64_t count = get_le64(bytes.p + 1);
    struct span rest = span_of(bytes.p + HEAD_SIZE, bytes.n - HEAD_SIZE);
    for (; count > 0; count--) {
        const char *end = rest.n > ID_SIZE ? memchr(rest.p + ID_SIZE, 0, rest.n - ID_SIZE) : NULL;
        size_t used = end != NULL ? (size_t)(end - rest.p) + 2 : rest.n + 1;
        if (used > rest.n)
            return false;
        rest = span_of(rest.p + used, rest.n - used);
    }
    return rest.n < PAD;
}

void rcore_conf_decode(struct raft_configuration *out, struct span bytes)
{
    ASSERT(complete(bytes));
    struct raft_buffer buffer = {(void *)(uintptr_t)bytes.p, bytes.n};
    int rv = raft_configuration_decode(&buffer, out);
    ASSERT(rv == 0);
}

bool rcore_conf_valid(struct span bytes)
{
    struct raft_configuration conf;
    struct raft_buffer buffer = {(void *)(uintptr_t)bytes.p, bytes.n};
    raft_configuration_init(&conf);
    bool fine = complete(bytes) && raft_configuration_decode(&buffer, &conf) == 0;
    if (fine)
        raft_configuration_close(&conf);
    return fine;
}

void rcore_encode_conf(const struct rcore_server *servers, size_t count, struct buf *out)
{
    struct raft_configuration conf;
    raft_configuration_init(&conf);
    for (size_t i = 0; i < count; i++) {
        int rv = raft_configuration_add(&conf, servers[i].id, servers[i].address,
                                        servers[i].voter ? RAFT_VOTER : RAFT_STANDBY);
        ASSERT(rv == 0);
    }
    struct raft_buffer buffer;
    int rv = raft_configuration_encode(&conf, &buffer);
    ASSERT(rv == 0);
    buf_add(out, buffer.base, buffer.len);
    raft_free(buffer.base);
    raft_configuration_close(&conf);
}

bool rcore_conf_votes(const struct raft_configuration *conf, raft_id id)
{
    for (unsigned i = 0; i < conf->n; i++)
        if (conf->servers[i].id == id)
            return conf->servers[i].role == RAFT_VOTER;
    return false;
}
