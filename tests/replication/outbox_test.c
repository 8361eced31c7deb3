#include "replication/outbox.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

static struct outbox outbox;
static struct buf said;

static void send(void *arg, uint64_t to, struct span message)
{
    cr_assert(eq(ptr, arg, &said));
    buf_addf(&said, "%lu:%.*s ", to, (int)message.n, message.p);
}

static void setup(void)
{
    said.n = 0;
    outbox_init(&outbox, send, &said);
}

static void teardown(void)
{
    outbox_close(&outbox);
    buf_close(&said);
}

TestSuite(outbox, .init = setup, .fini = teardown);

static void put(uint64_t to, const char *text)
{
    struct buf copy = {0};
    buf_add_str(&copy, text);
    outbox_put(&outbox, to, buf_span(&copy));
    memset(copy.p, '!', copy.n);
    buf_close(&copy);
}

#define SAID(text) cr_assert(span_eq(buf_span(&said), span_str(text)), "%.*s", (int)said.n, said.p)

Test(outbox, at_once_when_nothing_is_given)
{
    put(2, "a");
    put(3, "b");
    SAID("2:a 3:b ");
}

/* What was said between two votes leaves with the first of them, the rest with the second. */
Test(outbox, what_is_said_after_a_vote_waits_for_it)
{
    put(2, "a");
    uint64_t first = outbox_hold(&outbox);
    put(2, "b");
    put(3, "c");
    uint64_t second = outbox_hold(&outbox);
    put(2, "d");
    SAID("2:a ");
    outbox_release(&outbox, first);
    SAID("2:a 2:b 3:c ");
    put(3, "e");
    SAID("2:a 2:b 3:c ");
    outbox_release(&outbox, second);
    SAID("2:a 2:b 3:c 2:d 3:e ");
    put(2, "f");
    SAID("2:a 2:b 3:c 2:d 3:e 2:f ");
}

Test(outbox, one_write_of_two_votes_releases_both)
{
    outbox_hold(&outbox);
    put(2, "a");
    uint64_t second = outbox_hold(&outbox);
    put(2, "b");
    outbox_release(&outbox, second);
    SAID("2:a 2:b ");
}

Test(outbox, what_waits_at_the_end_is_never_said)
{
    outbox_hold(&outbox);
    put(2, "a");
    SAID("");
}
