/* store/client/url.h: http://, https://, ws:// and wss:// addresses, as far as a client needs
 * them. */
#ifndef LOQUAT_CLIENT_URL_H
#define LOQUAT_CLIENT_URL_H

#include "store/base/buf.h"

enum { URL_HOST_MAX = 255, URL_PORT_MAX = 5 };

struct url {
    char host[URL_HOST_MAX + 1]; /* without the brackets of an IPv6 address */
    char port[URL_PORT_MAX + 1];
    bool v6, tls;
};

/* http://HOST[:PORT][/], or another of the four; 0 or ERR_BAD_REQUEST with `why`. */
int url_parse(const char *text, struct url *url, const char **why);
/* The value of the Host header. */
void url_add_host(const struct url *url, struct buf *out);

#endif
