#include "gateway/seen.h"

#include <stdlib.h>

#include "gateway/say.h"
#include "store/base/check.h"

struct seen {
    struct conv_id id;
    struct list_link in_seens; /* oldest first */
    uint64_t due_ms, seq, n;
    bool waiting; /* there is something to tell then */
    char conv[CONV_ID_MAX + 1];
};

void seen_begin(struct gate *gate)
{
    map_init(&gate->seens);
    list_init(&gate->seen_due);
}

static void drop(struct gate *gate, struct seen *seen)
{
    map_remove(&gate->seens, (struct map_key){seen->id.hi, seen->id.lo});
    free(seen);
}

void seen_end(struct gate *gate)
{
    struct list_link *link;
    while ((link = list_pop(&gate->seen_due)) != NULL)
        drop(gate, container_of(link, struct seen, in_seens));
    map_close(&gate->seens);
}

static void tell(struct gate *gate, struct seen *seen)
{
    struct topic *topic = fanout_find(&gate->fanout, span_str(seen->conv));
    if (topic != NULL) {
        struct buf *text = &gate->answer;
        text->n = 0;
        say_seen(text, seen->conv, seen->seq, seen->n);
        fanout_tell_passing(topic, buf_span(text), "");
    }
    seen->waiting = false;
    seen->due_ms = gate->now_ms + SEEN_EVERY_MS;
    list_push(&gate->seen_due, &seen->in_seens);
}

void seen_take(struct gate *gate, const Loquat__MarkEvent *mark)
{
    size_t size = strlen(mark->conv);
    struct conv_id id = conv_id_of(span_str(mark->conv));
    bool fresh;
    if (size > CONV_ID_MAX)
        return;
    union map_val *val = map_put(&gate->seens, (struct map_key){id.hi, id.lo}, &fresh);
    if (fresh)
        val->p = xcalloc(1, sizeof(struct seen));
    struct seen *seen = val->p;
    seen->seq = mark->read;
    seen->n = mark->seen;
    seen->waiting = true;
    if (!fresh)
        return;
    seen->id = id;
    memcpy(seen->conv, mark->conv, size);
    tell(gate, seen);
}

void seen_sweep(struct gate *gate)
{
    for (struct list_link *link = list_first(&gate->seen_due); link != NULL;
         link = list_first(&gate->seen_due)) {
        struct seen *seen = container_of(link, struct seen, in_seens);
        if (seen->due_ms > gate->now_ms)
            return;
        list_remove(link);
        if (seen->waiting)
            tell(gate, seen);
        else
            drop(gate, seen);
    }
}
