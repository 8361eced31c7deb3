/* gateway/cluster_none.c: what a cluster tells who follows nothing: none of these comes. */
#include "gateway/cluster.h"

static void no_tail(void *arg, const Loquat__Tail *tail)
{
    (void)arg, (void)tail;
}

static void no_mark(void *arg, const Loquat__MarkEvent *mark)
{
    (void)arg, (void)mark;
}

static void no_typing(void *arg, const Loquat__Typing *typing)
{
    (void)arg, (void)typing;
}

static void no_presence(void *arg, const Loquat__Presence *presence)
{
    (void)arg, (void)presence;
}

static void no_route(void *arg, const bool *partitions)
{
    (void)arg, (void)partitions;
}

static void no_change(void *arg)
{
    (void)arg;
}

const struct cluster_ops CLUSTER_FOLLOWS_NOTHING = {.on_tail = no_tail,
                                                    .on_mark = no_mark,
                                                    .on_typing = no_typing,
                                                    .on_presence = no_presence,
                                                    .on_routed = no_route,
                                                    .on_change = no_change};
