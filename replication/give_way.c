#include "replication/give_way.h"

#include "store/base/clock.h"

void give_way_open(struct give_way *way)
{
    *way = (struct give_way){0};
    waited_open(&way->waited);
}

void give_way_close(struct give_way *way)
{
    waited_close(&way->waited);
}

uint64_t give_way_for_us(uint64_t worked_us, uint64_t waited_us)
{
    uint64_t wanted = waited_us * GIVE_WAY_TIMES, most = worked_us * (GIVE_WAY_PARTS - 1);
    return wanted < most ? wanted : most;
}

uint64_t give_way_us(struct give_way *way)
{
    struct waited_since since;
    uint64_t now_us = clock_mono_us(), rest_us = 0;
    if (now_us < way->look_at_us)
        return 0;
    if (waited_look(&way->waited, now_us, &since))
        rest_us = give_way_for_us(since.worked_us, since.waited_us);
    way->look_at_us = now_us + rest_us + GIVE_WAY_LOOK_US;
    return rest_us;
}
