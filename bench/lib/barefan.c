#include "bench/lib/barefan.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "store/base/ws.h"

enum { BACKLOG = 1024 };

static void write_whole(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, p, n);
        if (done <= 0)
            _exit(1);
        p += done;
        n -= (size_t)done;
    }
}

/* Takes the receivers' connections, then the trigger's: a byte on it is one burst of that many. */
static void serve(int listener, size_t count)
{
    static int fds[BAREFAN_MAX];
    char frame[BAREFAN_FRAME_MAX + WS_HEAD_MAX], head[WS_HEAD_MAX];
    uint16_t size = 0;
    for (size_t i = 0; i < count; i++)
        if ((fds[i] = accept(listener, NULL, NULL)) < 0)
            _exit(1);
    int trigger = accept(listener, NULL, NULL);
    if (trigger < 0 || read(trigger, &size, sizeof size) != sizeof size || size > BAREFAN_FRAME_MAX)
        _exit(1);
    size_t n = ws_frame_head(head, size);
    memcpy(frame, head, n);
    memset(frame + n, 'x', size);
    static const char EVENT[] = "{\"ev\":\"rec\"";
    memcpy(frame + n, EVENT, sizeof EVENT - 1);
    for (uint8_t burst; read(trigger, &burst, 1) == 1;)
        for (int k = 0; k < burst; k++)
            for (size_t i = 0; i < count; i++)
                write_whole(fds[i], frame, n + size);
    _exit(0);
}

void barefan_start(struct barefan *fan, size_t count)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    ASSERT(count <= BAREFAN_MAX);
    if (listener < 0 || bind(listener, (struct sockaddr *)&at, size) != 0 ||
        listen(listener, BACKLOG) != 0 || getsockname(listener, (struct sockaddr *)&at, &size) != 0)
        bench_fail("listen: %s", strerror(errno));
    *fan = (struct barefan){.count = count, .port = ntohs(at.sin_port)};
    fan->pid = proc_fork();
    if (fan->pid == 0)
        serve(listener, count);
    close(listener);
}

static size_t ignore(struct net *net, struct span bytes)
{
    (void)net;
    return bytes.n;
}

void barefan_open(struct barefan *fan, uv_loop_t *loop, uint64_t frame_bytes,
                  void (*on_line)(struct sock *sock, struct span line))
{
    fan->receivers = xcalloc(fan->count, sizeof *fan->receivers);
    for (size_t i = 0; i < fan->count; i++)
        sock_attach(&fan->receivers[i], loop, fan->port, on_line);
    fan->trigger.on_bytes = ignore;
    uint16_t size = (uint16_t)frame_bytes;
    buf_add(&fan->trigger.out, &size, sizeof size);
    net_open(&fan->trigger, loop, fan->port);
}

void barefan_say(struct barefan *fan, uint8_t burst)
{
    buf_add_byte(&fan->trigger.out, burst);
    net_flush(&fan->trigger);
}

void barefan_close(struct barefan *fan, uv_loop_t *loop)
{
    net_close(&fan->trigger);
    sock_close_all(fan->receivers, fan->count, loop);
    proc_wait(fan->pid);
    free(fan->receivers);
}
