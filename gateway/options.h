/* gateway/options.h: what loquat-gateway can be asked for, by arguments, environment or file
 * (store/base/config.h).
 * Thread: written before there are others. */
#ifndef LOQUAT_GATEWAY_OPTIONS_H
#define LOQUAT_GATEWAY_OPTIONS_H

#include "store/base/config.h"

enum { LOOPS_MAX = 256 };

struct options {
    char *listen, *admin_listen, *tls_cert, *tls_key, *embed, *nodes, *cluster_secret_file;
    char *cluster_tls_cert, *cluster_tls_key, *cluster_tls_ca;
    char *secret_file, *jwks_file, *origins, *web;
    char *log_level, *log_format;
    uint64_t loops, partitions, disk_reserve_mb;
    uint64_t rate, burst, conv_rate, conv_burst, conv_rate_all, user_conns, group_max, frame_max,
        conns;
    char *webhooks, *webhook_allow, *webhook_ca, *kafka, *kafka_advertise;
    char *io_uring;
    bool ws_echo;
};
extern struct options options;
extern const struct config_option options_table[];

#endif
