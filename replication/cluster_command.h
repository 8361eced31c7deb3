/* replication/cluster_command.h: `loquat-node cluster …`: how a cluster is, and what is to become
 * of it. What is wanted is asked for again and again, until the nodes say that it is so; whoever is
 * interrupted can give the same command again.
 * Thread: the main one. Ends the process when the command makes no sense, or when a node says why
 *         not. */
#ifndef LOQUAT_REPLICATION_CLUSTER_COMMAND_H
#define LOQUAT_REPLICATION_CLUSTER_COMMAND_H

#include "replication/roster.h"

#define CLUSTER_USAGE                                                                              \
    "cluster status --cluster ID=HOST:PORT,... --cluster-secret-file FILE\n"                       \
    "cluster add ID=HOST:PORT --cluster ...\n"                                                     \
    "cluster remove ID --cluster ...\n"                                                            \
    "cluster spread --cluster ...\n"                                                               \
    "cluster move PARTITION FROM TO --cluster ...\n"                                               \
    "cluster transfer PARTITION ID --cluster ...\n"                                                \
    "cluster drain|undrain ID --cluster ..."

struct tls;

struct cluster_options {
    const struct roster *roster;
    const char *cluster, *secret_file; /* as they were given */
    struct span secret;
    struct tls *tls; /* of links; NULL: they are plain */
    uint64_t replicas;
    bool json;
    /* How far it is: so many things, and which part of all, 1 at the end. */
    void (*show)(uint64_t count, const char *things, double share);
};

/* argv[0] is "cluster". The exit code; of status: 0 when all is well, 1 when not. */
int cluster_command(int argc, char **argv, const struct cluster_options *options);

#endif
