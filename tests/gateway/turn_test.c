/* Many connections in one turn of the loop. */
#include "gateway/turn.h"
#include "tests/gateway/gate_lib.h"

TestSuite(turn, .init = setup, .fini = teardown);
TestSuite(turn_alone, .init = setup_alone, .fini = teardown); /* a system call for each socket */

enum { CROWD = 8 };

/* A message of `n` bytes that is whole and can't be understood, without a turn. */
static void say_much(struct client *client, size_t n)
{
    struct buf frame = {0}, line = {0};
    buf_add_str(&line, "{\"id\":7,\"op\":\"none\",\"x\":\"");
    while (line.n < n)
        buf_add_byte(&line, 'x');
    buf_add_str(&line, "\"}");
    buf_add_byte(&line, 0);
    wsraw_text(&frame, TEXT_FRAME, line.p);
    cr_assert(eq(int, (int)send(client->fd, frame.p, frame.n, 0), (int)frame.n));
    buf_close(&frame);
    buf_close(&line);
}

/* Short and longer than what is read of one of many at once; some have gone meanwhile, with and
 * without a last word. */
static void answer_all(void)
{
    static const size_t SIZES[CROWD] = {10, TURN_READ_BYTES, 10, 20000, 60000, 10, 5000, 10};
    struct client crowd[CROWD];
    for (int i = 0; i < CROWD; i++)
        come(&crowd[i]);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < CROWD; i++)
            say_much(&crowd[i], SIZES[(i + round) % CROWD]);
        for (int i = 0; i < CROWD; i++)
            cr_assert(hears(&crowd[i], "{\"id\":7,\"err\":"));
    }
    for (int i = 0; i < CROWD; i++)
        say_much(&crowd[i], SIZES[i]);
    for (int i = 0; i < CROWD; i += 2)
        close(crowd[i].fd);
    for (int i = 1; i < CROWD; i += 2) {
        cr_assert(hears(&crowd[i], "{\"id\":7,\"err\":"));
        close(crowd[i].fd);
    }
    turn();
    cr_assert(zero(sz, gate->conn_count));
    for (int i = 0; i < CROWD; i++)
        buf_close(&crowd[i].in);
}

Test(turn, many_are_read_and_answered_in_one_turn)
{
    answer_all();
}

Test(turn_alone, many_are_read_and_answered_in_one_turn)
{
    answer_all();
}

/* What their sockets do not take at once waits, and goes out as they read. */
static void fill_up(void)
{
    enum { ANSWERS = 300, SMALL = 2048 };
    struct client crowd[CROWD];
    size_t got[CROWD] = {0}, stuck = 0;
    int small = SMALL;
    for (int i = 0; i < CROWD; i++)
        come(&crowd[i]);
    for (struct list_link *at = list_first(&gate->conns); at; at = list_next(&gate->conns, at)) {
        const struct conn *conn = container_of(at, struct conn, in_gate);
        cr_assert(zero(int, setsockopt(conn->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small)));
    }
    for (int n = 0; n < ANSWERS; n++) {
        for (int i = 0; i < CROWD; i++)
            say_much(&crowd[i], 10);
        turn();
    }
    for (struct list_link *at = list_first(&gate->conns); at; at = list_next(&gate->conns, at))
        stuck += container_of(at, struct conn, in_gate)->stuck;
    cr_assert(eq(sz, stuck, CROWD));
    for (int n = 0; n < ANSWERS; n++)
        for (int i = 0; i < CROWD; i++)
            for (const char *at = heard(&crowd[i]); (at = strstr(at, "\"id\":7")) != NULL; at++)
                got[i]++;
    for (int i = 0; i < CROWD; i++) {
        cr_assert(eq(sz, got[i], ANSWERS));
        go(&crowd[i]);
    }
}

Test(turn, many_answers_at_once)
{
    fill_up();
}

Test(turn_alone, many_answers_at_once)
{
    fill_up();
}

/* More waits for it than it may have when it says something: it is not read, and the loop is not
 * woken for it again and again until it has taken some. */
Test(turn, who_is_not_read_does_not_wake_the_loop)
{
    enum { SOME = 40000, MUCH = 2 * CONN_OUT_HIGH, SMALL = 2048 };
    static char zeros[MUCH];
    struct client alice;
    int small = SMALL;
    come(&alice);
    struct conn *conn = container_of(list_first(&gate->conns), struct conn, in_gate);
    cr_assert(zero(int, setsockopt(conn->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small)));
    conn_send(conn, span_of(zeros, SOME));
    turn();
    cr_assert(conn->stuck && conn->events & UV_READABLE);
    conn_send(conn, span_of(zeros, MUCH));
    say_much(&alice, 10);
    turn();
    cr_assert(not(conn->events & UV_READABLE));
    for (size_t left = SOME + MUCH; left > 0;) {
        static char room[1 << 16];
        turn();
        ssize_t n = recv(alice.fd, room, left < sizeof room ? left : sizeof room, MSG_DONTWAIT);
        cr_assert(lt(int, 0, (int)n));
        left -= (size_t)n;
    }
    cr_assert(hears(&alice, "{\"id\":7,\"err\":"));
    go(&alice);
}
