/* gateway/listen.h: listening sockets. */
#ifndef LOQUAT_GATEWAY_LISTEN_H
#define LOQUAT_GATEWAY_LISTEN_H

#include <stddef.h>

enum { LISTEN_ADDRESS_MAX = 128 };

/* `address`: "127.0.0.1:8080", "[::1]:8080"; port 0: the kernel chooses. `actual` gets the address
 * in force. `share`: several sockets of one port (SO_REUSEPORT), between which the kernel spreads
 * connections.
 * -1: `why`, and *usage when the words are wrong rather than the machine. */
int listen_on(const char *address, int share, char actual[LISTEN_ADDRESS_MAX], char *why,
              size_t size, int *usage);

#endif
