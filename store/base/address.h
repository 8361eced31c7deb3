/* store/base/address.h: "host:port" and "[host]:port" as options have them. */
#ifndef LOQUAT_BASE_ADDRESS_H
#define LOQUAT_BASE_ADDRESS_H

#include <stdbool.h>

enum { ADDRESS_HOST_MAX = 96, ADDRESS_PORT_MAX = 8 }; /* with NUL */

struct address {
    char host[ADDRESS_HOST_MAX], port[ADDRESS_PORT_MAX];
};
bool address_parse(const char *text, struct address *address); /* false: it is none */

#endif
