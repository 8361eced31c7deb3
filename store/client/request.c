#include "store/client/request.h"

#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/json.h"

enum { NONE = UINT32_MAX };

void requests_init(struct requests *requests, uint32_t window)
{
    ASSERT(window > 0 && window <= REQUESTS_WINDOW_MAX);
    *requests = (struct requests){.count = window + REQUESTS_OWN,
                                  .window = window,
                                  .first = NONE,
                                  .last = NONE,
                                  .unsent = NONE,
                                  .generation = 1};
    requests->slots = xcalloc(requests->count, sizeof *requests->slots);
    for (uint32_t i = 0; i < requests->count; i++)
        requests->slots[i].after = i + 1 < requests->count ? i + 1 : NONE;
}

void requests_close(struct requests *requests)
{
    for (uint32_t i = 0; i < requests->count; i++)
        buf_close(&requests->slots[i].text);
    free(requests->slots);
    *requests = (struct requests){0};
}

int requests_add(struct requests *requests, struct span fields, bool own, loquat_answer_fn fn,
                 void *arg)
{
    if (own ? requests->used_own == REQUESTS_OWN : requests->used == requests->window)
        return LOQUAT_BUSY;
    uint32_t at = requests->free;
    struct request *request = &requests->slots[at];
    ASSERT(request->id == 0);
    requests->free = request->after;
    /* The slot can be read off the id; the generation makes it new each time. */
    request->id = requests->generation++ * requests->count + at;
    ASSERT(request->id > REQUESTS_ID_FREE);
    request->fn = fn;
    request->arg = arg;
    request->own = own;
    request->before = requests->last;
    request->after = NONE;
    request->text.n = 0;
    buf_add_str(&request->text, "{\"id\":");
    json_put_u64(&request->text, request->id);
    buf_add_byte(&request->text, ',');
    buf_add_span(&request->text, fields);
    buf_add_byte(&request->text, '}');
    if (requests->last != NONE)
        requests->slots[requests->last].after = at;
    else
        requests->first = at;
    requests->last = at;
    if (requests->unsent == NONE)
        requests->unsent = at;
    *(own ? &requests->used_own : &requests->used) += 1;
    return 0;
}

static void remove_at(struct requests *requests, uint32_t at)
{
    struct request *request = &requests->slots[at];
    if (request->before != NONE)
        requests->slots[request->before].after = request->after;
    else
        requests->first = request->after;
    if (request->after != NONE)
        requests->slots[request->after].before = request->before;
    else
        requests->last = request->before;
    if (requests->unsent == at)
        requests->unsent = request->after;
    *(request->own ? &requests->used_own : &requests->used) -= 1;
    request->id = 0;
    request->after = requests->free;
    requests->free = at;
}

bool requests_take(struct requests *requests, uint64_t id, loquat_answer_fn *fn, void **arg)
{
    uint32_t at = (uint32_t)(id % requests->count);
    if (id == 0 || requests->slots[at].id != id)
        return false;
    *fn = requests->slots[at].fn;
    *arg = requests->slots[at].arg;
    remove_at(requests, at);
    return true;
}

bool requests_take_first(struct requests *requests, loquat_answer_fn *fn, void **arg)
{
    return requests->first != NONE &&
           requests_take(requests, requests->slots[requests->first].id, fn, arg);
}

bool requests_frame(struct requests *requests, size_t size_max, struct buf *frame)
{
    frame->n = 0;
    while (requests->unsent != NONE) {
        const struct request *request = &requests->slots[requests->unsent];
        if (frame->n > 0 && frame->n + 1 + request->text.n > size_max)
            break;
        if (frame->n > 0)
            buf_add_byte(frame, '\n');
        buf_add_span(frame, buf_span(&request->text));
        requests->unsent = request->after;
    }
    return frame->n > 0;
}

void requests_rewind(struct requests *requests)
{
    requests->unsent = requests->first;
}
