/* Who is there, told to who watches: with a clock and followers of the test's own. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

#include "replication/presence.h"

enum {
    OFFLINE = LOQUAT__PRESENCE_STATE__PRESENCE_OFFLINE,
    AWAY = LOQUAT__PRESENCE_STATE__PRESENCE_AWAY,
    ONLINE = LOQUAT__PRESENCE_STATE__PRESENCE_ONLINE,
    P = 1,
};

static struct presence presence;
static struct feed_peer peers[2];
static uint32_t now_is; /* of bob */
static uint64_t now_ms;
static char told[512]; /* to whom what, since it was looked at */
static uint64_t last_seen;

static uint32_t state(void *arg, struct conv_id user)
{
    (void)arg;
    return conv_id_eq(user, user_log_id(span_str("bob"))) ? now_is : OFFLINE;
}

static void say(void *arg, struct feed_peer *peer, struct span message)
{
    (void)arg;
    Loquat__Presence *said = loquat__presence__unpack(NULL, message.n, (const uint8_t *)message.p);
    cr_assert(said != NULL);
    size_t n = strlen(told);
    snprintf(told + n, sizeof told - n, "%d:%s %s,", (int)(peer - peers), said->user,
             said->state == ONLINE ? "on"
             : said->state == AWAY ? "away"
                                   : "off");
    last_seen = said->last_seen;
    loquat__presence__free_unpacked(said, NULL);
}

static const struct presence_ops OPS = {state, say};

static void setup(void)
{
    now_is = OFFLINE;
    now_ms = 1000000;
    told[0] = 0;
    presence_init(&presence, P + 1, &OPS, NULL);
    for (int i = 0; i < 2; i++)
        feed_peer_init(&peers[i], NULL);
    presence_led(&presence, P, now_ms - PRESENCE_LED_MS);
}

static void teardown(void)
{
    for (int i = 0; i < 2; i++) {
        presence_peer_close(&presence, &peers[i]);
        map_close(&peers[i].subs);
    }
    presence_close(&presence);
}

TestSuite(presence, .init = setup, .fini = teardown, .timeout = 60);

static void watch(int peer, const char *user, bool on)
{
    Loquat__Watch message = LOQUAT__WATCH__INIT;
    message.user = (char *)(uintptr_t)user;
    message.partition = P;
    message.on = on;
    presence_watch(&presence, &peers[peer], &message, now_ms);
}

static void becomes(uint32_t state_now, bool lost)
{
    now_is = state_now;
    presence_changed(&presence, user_log_id(span_str("bob")), lost, now_ms);
}

static void after(uint64_t ms)
{
    now_ms += ms;
    presence_tick(&presence, now_ms);
}

static void expect(const char *want)
{
    cr_assert(eq(str, told, (char *)(uintptr_t)want));
    told[0] = 0;
}

Test(presence, told_when_it_changes)
{
    watch(0, "bob", true);
    expect("0:bob off,");
    cr_assert(eq(u64, last_seen, 0));
    becomes(ONLINE, false);
    expect("0:bob on,");
    becomes(ONLINE, false); /* another device */
    expect("");
    watch(1, "bob", true);
    expect("1:bob on,");
    becomes(AWAY, false);
    expect("0:bob away,1:bob away,");
    becomes(OFFLINE, false);
    after(PRESENCE_CLOSED_MS - 1);
    expect("");
    after(1);
    expect("0:bob off,1:bob off,");
    cr_assert(ne(u64, last_seen, 0));
    after(100000);
    expect("");
}

/* Back in time: nobody hears of it. */
Test(presence, back_at_once)
{
    now_is = ONLINE;
    watch(0, "bob", true);
    expect("0:bob on,");
    becomes(OFFLINE, false);
    after(PRESENCE_CLOSED_MS - 1);
    becomes(ONLINE, false);
    after(PRESENCE_LOST_MS);
    expect("");
    becomes(OFFLINE, false);
    after(PRESENCE_CLOSED_MS - 1);
    becomes(AWAY, false);
    expect("0:bob away,");
}

/* A link that is lost gives more time than a connection that was closed; the first word counts. */
Test(presence, lost_with_the_link)
{
    now_is = ONLINE;
    watch(0, "bob", true);
    becomes(OFFLINE, true);
    after(PRESENCE_LOST_MS - 1);
    expect("0:bob on,");
    after(1);
    expect("0:bob off,");
}

/* Who is told to be gone by turns, in the order of their times. */
Test(presence, in_order)
{
    now_is = ONLINE;
    watch(0, "bob", true);
    watch(0, "joe", true); /* nobody follows that log */
    expect("0:bob on,0:joe off,");
    becomes(OFFLINE, true);
    now_ms += 10;
    presence_changed(&presence, user_log_id(span_str("joe")), false, now_ms);
    after(PRESENCE_CLOSED_MS);
    expect(""); /* joe was told to be gone already */
    after(PRESENCE_LOST_MS);
    expect("0:bob off,");
}

Test(presence, no_more)
{
    watch(0, "bob", true);
    watch(1, "bob", true);
    watch(0, "bob", true); /* again, as after a change of leaders: said again */
    expect("0:bob off,1:bob off,0:bob off,");
    watch(0, "bob", false);
    watch(0, "bob", false);
    becomes(ONLINE, false);
    expect("1:bob on,");
    presence_peer_close(&presence, &peers[1]);
    becomes(AWAY, false);
    expect("");
    cr_assert(eq(sz, presence.watched.count, 0));
    cr_assert(eq(sz, peers[0].watches + peers[1].watches, 0));
}

/* A leader that is new does not know yet who is there. */
Test(presence, new_leader)
{
    presence_led(&presence, P, now_ms);
    watch(0, "bob", true);
    watch(1, "bob", true);
    expect("");
    after(PRESENCE_LED_MS / 2);
    becomes(ONLINE, false);
    expect("0:bob on,1:bob on,");
    becomes(OFFLINE, false);
    after(PRESENCE_LED_MS / 2 - 1);
    expect("");
    after(PRESENCE_CLOSED_MS);
    expect("0:bob off,1:bob off,");
    presence_led(&presence, P, now_ms);
    watch(0, "joe", true);
    after(PRESENCE_LED_MS - 1);
    expect("");
    after(1);
    expect("0:joe off,");
}

/* It leads no more: nothing is said, and nothing left. */
Test(presence, led_elsewhere)
{
    watch(0, "bob", true);
    watch(1, "bob", true);
    watch(1, "joe", true);
    becomes(ONLINE, false);
    becomes(OFFLINE, false);
    told[0] = 0;
    presence_drop(&presence, P - 1);
    cr_assert(eq(sz, presence.watched.count, 2));
    presence_drop(&presence, P);
    after(PRESENCE_LOST_MS);
    expect("");
    cr_assert(eq(sz, presence.watched.count, 0));
    cr_assert(eq(sz, peers[0].watches + peers[1].watches, 0));
}

Test(presence, malformed)
{
    watch(0, "no such name!", true);
    watch(0, "", true);
    Loquat__Watch message = LOQUAT__WATCH__INIT;
    message.user = "bob";
    message.partition = P + 1;
    message.on = true;
    presence_watch(&presence, &peers[0], &message, now_ms);
    expect("");
    cr_assert(eq(sz, presence.watched.count, 0));
}

/* When somebody was seen is kept of so many; of more, of none. */
Test(presence, seen_of_many)
{
    char user[16];
    for (int i = 0; i <= PRESENCE_SEEN_MAX; i++) {
        snprintf(user, sizeof user, "u%d", i);
        presence_changed(&presence, user_log_id(span_str(user)), false, now_ms);
        cr_assert(le(sz, presence.seen.count, PRESENCE_SEEN_MAX));
    }
    cr_assert(eq(sz, presence.seen.count, 1));
}
