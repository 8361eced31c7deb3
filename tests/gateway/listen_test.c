#include "gateway/listen.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char actual[LISTEN_ADDRESS_MAX], why[300];
static int wrong;

static int try(const char *address, int share)
{
    wrong = -1;
    why[0] = actual[0] = '\0';
    return listen_on(address, share, actual, why, sizeof why, &wrong);
}

/* Port 0: the kernel's choice is said, and somebody can connect to it. */
Test(listen, the_address_in_force)
{
    int fd = try("127.0.0.1:0", 0);
    cr_assert(ge(int, fd, 0));
    cr_assert(zero(int, strncmp(actual, "127.0.0.1:", 10)));
    long port = strtol(actual + 10, NULL, 10);
    cr_assert(lt(long, 0, port));
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert(zero(int, connect(client, (struct sockaddr *)&at, sizeof at)));
    close(client);
    close(fd);
}

Test(listen, version_six)
{
    int fd = try("[::1]:0", 0);
    if (fd < 0) /* a machine without it says so, and not that the words are wrong */
        cr_assert(zero(int, wrong));
    else
        cr_assert(zero(int, strncmp(actual, "[::1]:", 6)));
    close(fd);
}

/* Words that are no address are the caller's mistake, and the message shows the right form. */
Test(listen, what_is_no_address)
{
    static const char *const BAD[] = {
        "",
        ":",
        "127.0.0.1",
        "127.0.0.1:",
        ":8080",
        "host:port",
        "127.0.0.1:80x",
        "[]:80",
        "127.0.0.1:-1",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx:80"};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        cr_assert(eq(int, try(BAD[i], 0), -1), "%s", BAD[i]);
        cr_assert(eq(int, wrong, 1), "%s", BAD[i]);
        cr_assert(ne(ptr, strstr(why, "127.0.0.1:8080"), NULL), "%s", why);
    }
}

/* A port that is taken is the machine's fault, and the message says what to do. */
Test(listen, a_port_that_is_taken)
{
    char first[LISTEN_ADDRESS_MAX];
    int fd = try("127.0.0.1:0", 0);
    memcpy(first, actual, sizeof first);
    cr_assert(eq(int, try(first, 0), -1));
    cr_assert(zero(int, wrong));
    cr_assert(ne(ptr, strstr(why, "--listen"), NULL), "%s", why);
    cr_assert(eq(int, try(first, 1), -1)); /* only those share who all want to */
    close(fd);
}

/* Loops share a port. */
Test(listen, sockets_that_share)
{
    char first[LISTEN_ADDRESS_MAX];
    int one = try("127.0.0.1:0", 1);
    memcpy(first, actual, sizeof first);
    int two = try(first, 1);
    cr_assert(ge(int, one, 0));
    cr_assert(ge(int, two, 0));
    cr_assert(eq(str, actual, first));
    close(one);
    close(two);
}
