#include "store/base/waited.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { TEXT_MAX = 128 };

void waited_open(struct waited *waited)
{
    *waited = (struct waited){.fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC)};
}

void waited_close(struct waited *waited)
{
    if (waited->fd >= 0)
        close(waited->fd);
    waited->fd = -1;
}

bool waited_look(struct waited *waited, uint64_t now_us, struct waited_since *since)
{
    char text[TEXT_MAX], *end;
    const struct waited before = *waited;
    if (waited->fd < 0)
        return false;
    ssize_t n = pread(waited->fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    uint64_t worked_ns = strtoull(text, &end, 10);
    if (end == text || *end != ' ') {
        waited_close(waited); /* not on this kernel */
        return false;
    }
    *waited = (struct waited){before.fd, now_us, worked_ns, strtoull(end, NULL, 10)};
    *since = (struct waited_since){now_us - before.looked_us, (worked_ns - before.worked_ns) / 1000,
                                   (waited->waited_ns - before.waited_ns) / 1000};
    return before.looked_us != 0;
}
