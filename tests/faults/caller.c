/* tests/faults/caller.c: LD_PRELOAD: connections over IPv4 come from the address CALL_FROM. Where
 * all programs are on one machine, whoever is called sees by that who calls (cluster_net.py). */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

__attribute__((visibility("default"))) int connect(int fd, const struct sockaddr *to,
                                                   socklen_t size)
{
    int (*real)(int, const struct sockaddr *, socklen_t) =
        (int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "connect");
    const char *text = getenv("CALL_FROM");
    struct sockaddr_in from = {.sin_family = AF_INET};
    if (to->sa_family == AF_INET && text != NULL && inet_pton(AF_INET, text, &from.sin_addr) == 1 &&
        bind(fd, (struct sockaddr *)&from, sizeof from) != 0)
        return -1; /* errno says why */
    return real(fd, to, size);
}
