/* gateway/settings.h: what all loops read and none writes. */
#ifndef LOQUAT_GATEWAY_SETTINGS_H
#define LOQUAT_GATEWAY_SETTINGS_H

#include "gateway/auth.h"
#include "gateway/hook_rules.h"
#include "gateway/limits.h"
#include "gateway/origin.h"
#include "gateway/page.h"
#include "store/base/dial.h"
#include "store/base/tls.h"

enum {
    GATEWAY_FRAME_MAX_DEFAULT = 65536, /* bytes of a frame or body that comes in */
    GATEWAY_GROUP_MAX_DEFAULT = 500,   /* members; scope admin has no bound */
    GATEWAY_WINDOW = 256, /* records a live client may be behind before it gets `lag` */
    GATEWAY_PING_MS = 25000,
    GATEWAY_AUTH_MS = 5000,
    GATEWAY_RECONNECT_MIN_MS = 500,
    GATEWAY_RECONNECT_MAX_MS = 15000,
};

struct settings {
    struct auth *auth;
    struct limits limits;
    struct limits floods; /* changes of one user in one conversation */
    struct limits crowds; /* changes in one conversation */
    struct origins origins;
    struct hook_rules hook_rules;
    const char *hook_ca; /* who vouches for webhooks; NULL: whom the system trusts */
    struct tls *tls;     /* NULL: clients come in the clear */
    struct page *page;   /* the web client's files; NULL: not built */
    uint64_t frame_max, group_max;
    uint64_t conns_max;  /* of one loop */
    bool io_uring;       /* many sockets by one system call, where the kernel allows it */
    bool metrics_public; /* no admin address: /metrics on the main one, for this machine only */
    const struct dial_target *nodes; /* they are over TCP; NULL: */
    size_t node_count;
    /* A descriptor of a fresh link to the node inside; -1: none. */
    int (*connect)(void *arg);
    void *connect_arg;
};

#endif
