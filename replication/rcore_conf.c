#include "replication/rcore_conf.h"

#include "replication/rcore.h"
#include "store/base/buf.h"
#include "store/base/check.h"

void rcore_conf_decode(struct raft_configuration *out, struct span bytes)
{
    struct raft_buffer buffer = {(void *)(uintptr_t)bytes.p, bytes.n};
    int rv = raft_configuration_decode(&buffer, out);
    ASSERT(rv == 0);
}

bool rcore_conf_valid(struct span bytes)
{
    struct raft_configuration conf;
    struct raft_buffer buffer = {(void *)(uintptr_t)bytes.p, bytes.n};
    raft_configuration_init(&conf);
    bool fine = bytes.n > 0 && raft_configuration_decode(&buffer, &conf) == 0;
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
