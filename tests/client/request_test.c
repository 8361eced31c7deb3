#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "store/client/request.h"

static void on_answer(struct loquat *chat, const struct loquat_answer *answer, void *arg)
{
    (void)chat;
    (void)answer;
    (void)arg;
}

static int add(struct requests *requests, const char *fields)
{
    return requests_add(requests, span_str(fields), false, on_answer, NULL);
}

/* Requests go out in the order they were made, several in a frame, never over its size. */
Test(request, frames_are_filled_in_order)
{
    struct requests requests;
    struct buf frame = {0};
    requests_init(&requests, 8);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(add(&requests, "\"op\":\"ping\""), 0);
    size_t one = requests.slots[requests.first].text.n;
    cr_assert(requests_frame(&requests, one * 3 + 2, &frame));
    size_t lines = 1;
    for (size_t i = 0; i < frame.n; i++)
        lines += frame.p[i] == '\n';
    cr_assert(eq(sz, lines, 3));
    cr_assert(le(sz, frame.n, one * 3 + 2));
    cr_assert(requests_frame(&requests, one * 3, &frame));
    cr_assert(eq(sz, frame.n, one));
    cr_assert(not(requests_frame(&requests, one * 3, &frame)));
    buf_close(&frame);
    requests_close(&requests);
}

/* The window is a bound; an answer makes room; an old id means nothing to the next request. */
Test(request, window_is_bounded_and_ids_are_new)
{
    struct requests requests;
    loquat_answer_fn fn;
    void *arg;
    requests_init(&requests, 2);
    cr_assert_eq(add(&requests, "a"), 0);
    uint64_t id = requests.slots[requests.first].id;
    cr_assert_eq(add(&requests, "b"), 0);
    cr_assert_eq(add(&requests, "c"), LOQUAT_BUSY);
    cr_assert(requests_take(&requests, id, &fn, &arg));
    cr_assert(not(requests_take(&requests, id, &fn, &arg)));
    cr_assert_eq(add(&requests, "c"), 0);
    cr_assert(not(requests_take(&requests, id, &fn, &arg)));
    cr_assert(not(requests_take(&requests, 0, &fn, &arg)));
    cr_assert(lt(u64, REQUESTS_ID_FREE, requests.slots[requests.last].id));
    requests_close(&requests);
}

/* After a break everything unanswered goes again, in the same order and with the same text. */
Test(request, rewind_sends_the_unanswered_again)
{
    struct requests requests;
    struct buf before = {0}, after = {0};
    loquat_answer_fn fn;
    void *arg;
    requests_init(&requests, 8);
    add(&requests, "\"a\":1");
    uint64_t first = requests.slots[requests.first].id;
    add(&requests, "\"b\":2");
    add(&requests, "\"c\":3");
    cr_assert(requests_frame(&requests, 4096, &before));
    cr_assert(requests_take(&requests, first, &fn, &arg));
    requests_rewind(&requests);
    cr_assert(requests_frame(&requests, 4096, &after));
    const char *rest = memchr(before.p, '\n', before.n);
    cr_assert(rest != NULL);
    cr_assert(
        span_eq(buf_span(&after), span_of(rest + 1, before.n - (size_t)(rest + 1 - before.p))));
    buf_close(&before);
    buf_close(&after);
    requests_close(&requests);
}
