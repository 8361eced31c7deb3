#include "replication/give_way.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/base/clock.h"

enum { TEXT_MAX = 128 };

void give_way_open(struct give_way *way)
{
    *way = (struct give_way){.fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC)};
}

void give_way_close(struct give_way *way)
{
    if (way->fd >= 0)
        close(way->fd);
    way->fd = -1;
}

uint64_t give_way_for_us(uint64_t worked_us, uint64_t waited_us)
{
    uint64_t wanted = waited_us * GIVE_WAY_TIMES, most = worked_us * (GIVE_WAY_PARTS - 1);
    return wanted < most ? wanted : most;
}

uint64_t give_way_us(struct give_way *way)
{
    char text[TEXT_MAX], *end;
    uint64_t now_us = clock_mono_us(), worked_ns, waited_ns, rest_us = 0;
    if (way->fd < 0 || now_us - way->looked_us < GIVE_WAY_LOOK_US)
        return 0;
    ssize_t n = pread(way->fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    worked_ns = strtoull(text, &end, 10);
    if (end == text || *end != ' ') {
        give_way_close(way); /* not on this kernel */
        return 0;
    }
    waited_ns = strtoull(end, NULL, 10);
    if (way->looked_us != 0)
        rest_us = give_way_for_us((worked_ns - way->worked_ns) / 1000,
                                  (waited_ns - way->waited_ns) / 1000);
    *way = (struct give_way){way->fd, now_us + rest_us, worked_ns, waited_ns};
    return rest_us;
}
