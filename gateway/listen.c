#include "gateway/listen.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "store/base/address.h"

enum { BACKLOG = 4096, HOST_MAX = 96 };

static void name_of(int fd, char actual[LISTEN_ADDRESS_MAX])
{
    struct sockaddr_storage at;
    socklen_t size = sizeof at;
    char host[HOST_MAX] = "?", port[16] = "?";
    if (getsockname(fd, (struct sockaddr *)&at, &size) == 0)
        getnameinfo((struct sockaddr *)&at, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(actual, LISTEN_ADDRESS_MAX, strchr(host, ':') != NULL ? "[%s]:%s" : "%s:%s", host,
             port);
}

int listen_on(const char *address, int share, char actual[LISTEN_ADDRESS_MAX], char *why,
              size_t size, int *usage)
{
    struct address at;
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    *usage = !address_parse(address, &at);
    if (*usage) {
        snprintf(why, size, "\"%s\" is no address; write HOST:PORT, such as 127.0.0.1:8080",
                 address);
        return -1;
    }
    int rv = getaddrinfo(at.host, at.port, &hints, &found);
    if (rv != 0) {
        snprintf(why, size, "%s: %s", address, gai_strerror(rv));
        return -1;
    }
    int on = 1;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int fine = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
               (!share || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0) &&
               bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0;
    freeaddrinfo(found);
    if (fine) {
        name_of(fd, actual);
        return fd;
    }
    snprintf(why, size, "%s can't be listened on: %s%s", address, strerror(errno),
             errno == EADDRINUSE ? "; another server has it, choose another with --listen" : "");
    if (fd >= 0)
        close(fd);
    return -1;
}
