#include "store/base/handshake.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "store/base/err.h"

static const char SECRET[] = "0123456789abcdef0123456789abcdef";
static const char OTHER[] = "0123456789abcdef0123456789abcdeF";
static struct handshake caller, called;

static void begin(const char *caller_secret, const char *called_secret)
{
    handshake_begin(&caller, true, HANDSHAKE_GATEWAY, HANDSHAKE_NODE, span_str(caller_secret));
    handshake_begin(&called, false, HANDSHAKE_NODE, HANDSHAKE_GATEWAY, span_str(called_secret));
}

/* What one side owes goes to the other, `step` bytes at a time. */
static int pass(struct handshake *from, struct handshake *to, size_t step)
{
    int rv = 0;
    size_t n = from->out_size;
    from->out_size = 0;
    for (size_t at = 0; at < n && rv == 0; at += step) {
        size_t size = n - at < step ? n - at : step;
        cr_assert(le(sz, size, handshake_wants(to)));
        rv = handshake_feed(to, from->out + at, size);
    }
    return rv;
}

/* Who has the secret gets through, however the bytes are cut; the called says the last word. */
Test(handshake, both_prove_themselves)
{
    for (size_t step = 1; step <= HANDSHAKE_HELLO; step++) {
        begin(SECRET, SECRET);
        cr_assert(eq(sz, called.out_size, 0));
        cr_assert(eq(int, pass(&caller, &called, step), 0));
        cr_assert(eq(int, pass(&called, &caller, step), 0));
        cr_assert(eq(sz, caller.out_size, HANDSHAKE_PROOF));
        cr_assert(eq(int, pass(&caller, &called, step), 1));
        cr_assert(eq(int, pass(&called, &caller, step), 1));
        cr_assert(eq(sz, handshake_wants(&caller), 0));
        cr_assert(eq(sz, handshake_wants(&called), 0));
    }
}

/* A caller without the secret is told nothing that was made with it. */
Test(handshake, wrong_secret_is_refused)
{
    begin(OTHER, SECRET);
    cr_assert(eq(int, pass(&caller, &called, 40), 0));
    cr_assert(eq(int, pass(&called, &caller, 40), 0));
    cr_assert(eq(int, pass(&caller, &called, 40), ERR_UNAUTHORIZED));
    cr_assert(eq(sz, called.out_size, 0));
}

/* Nor does a caller take for its node what has not the secret. */
Test(handshake, false_node_is_refused)
{
    begin(SECRET, SECRET);
    pass(&caller, &called, 40);
    pass(&called, &caller, 40);
    char proof[HANDSHAKE_PROOF] = {0};
    cr_assert(eq(int, handshake_feed(&caller, proof, sizeof proof), ERR_UNAUTHORIZED));
    begin(SECRET, SECRET);
    pass(&caller, &called, 40);
    pass(&called, &caller, 40);
    memcpy(proof, caller.out, sizeof proof); /* its own, sent back */
    cr_assert(eq(int, handshake_feed(&caller, proof, sizeof proof), ERR_UNAUTHORIZED));
}

/* Two of the same role can't be played off against each other: a side's words sent back to it. */
Test(handshake, reflection_is_refused)
{
    handshake_begin(&caller, true, HANDSHAKE_NODE, HANDSHAKE_NODE, span_str(SECRET));
    char hello[HANDSHAKE_HELLO];
    memcpy(hello, caller.out, sizeof hello);
    caller.out_size = 0;
    cr_assert(eq(int, handshake_feed(&caller, hello, sizeof hello), 0));
    char proof[HANDSHAKE_PROOF];
    memcpy(proof, caller.out, sizeof proof);
    caller.out_size = 0;
    cr_assert(eq(int, handshake_feed(&caller, proof, sizeof proof), ERR_UNAUTHORIZED));
}

/* Where both roles will do, the other side's is known when it has proved itself, and no third is.
 * */
Test(handshake, either_role)
{
    for (int role = HANDSHAKE_GATEWAY; role <= HANDSHAKE_NODE; role++) {
        handshake_begin(&caller, true, (enum handshake_role)role, HANDSHAKE_NODE, span_str(SECRET));
        handshake_begin(&called, false, HANDSHAKE_NODE, HANDSHAKE_ANY, span_str(SECRET));
        pass(&caller, &called, 40);
        pass(&called, &caller, 40);
        cr_assert(eq(int, pass(&caller, &called, 40), 1));
        cr_assert(eq(int, pass(&called, &caller, 40), 1));
        cr_assert(eq(int, (int)handshake_other(&called), role));
        cr_assert(eq(int, (int)handshake_other(&caller), (int)HANDSHAKE_NODE));
    }
    handshake_begin(&caller, true, HANDSHAKE_GATEWAY, HANDSHAKE_NODE, span_str(SECRET));
    handshake_begin(&called, false, HANDSHAKE_NODE, HANDSHAKE_ANY, span_str(SECRET));
    caller.out[5] = 3;
    cr_assert(eq(int, handshake_feed(&called, caller.out, HANDSHAKE_HELLO), ERR_FORBIDDEN));
}

/* What a true gateway said once is of no use to who heard it. */
Test(handshake, replay_is_refused)
{
    char hello[HANDSHAKE_HELLO], proof[HANDSHAKE_PROOF];
    begin(SECRET, SECRET);
    memcpy(hello, caller.out, sizeof hello);
    pass(&caller, &called, 40);
    pass(&called, &caller, 40);
    memcpy(proof, caller.out, sizeof proof);
    cr_assert(eq(int, pass(&caller, &called, 40), 1));
    begin(SECRET, SECRET);
    cr_assert(eq(int, handshake_feed(&called, hello, sizeof hello), 0));
    called.out_size = 0;
    cr_assert(eq(int, handshake_feed(&called, proof, sizeof proof), ERR_UNAUTHORIZED));
}

Test(handshake, wrong_role_version_and_garbage_are_refused)
{
    static const struct {
        size_t at;
        char value;
        int err;
    } CASES[] = {{0, 'G', ERR_CORRUPT}, {3, 'x', ERR_CORRUPT}, {4, 2, ERR_VERSION},
                 {5, 0, ERR_FORBIDDEN}, {5, 2, ERR_FORBIDDEN}, {5, (char)255, ERR_FORBIDDEN},
                 {6, 1, ERR_CORRUPT},   {7, 1, ERR_CORRUPT}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        begin(SECRET, SECRET);
        caller.out[CASES[i].at] = CASES[i].value;
        cr_assert(eq(int, pass(&caller, &called, 40), CASES[i].err), "case %zu", i);
        cr_assert(eq(sz, called.out_size, 0));
    }
}

/* A flipped bit anywhere, in any of the four messages: at least one side does not take the other,
 * and who was lied to is among them. */
Test(handshake, flipped_bits_are_found)
{
    for (size_t bit = 0; bit < 2 * 8 * (HANDSHAKE_HELLO + HANDSHAKE_PROOF); bit++) {
        size_t at = bit;
        int results[4] = {0};
        struct handshake *sides[2] = {&caller, &called};
        begin(SECRET, SECRET);
        int rv = 0;
        for (int i = 0; i < 4 && rv >= 0; i++) {
            struct handshake *from = sides[i % 2];
            if (at < 8 * from->out_size)
                from->out[at / 8] = (char)(from->out[at / 8] ^ 1 << at % 8);
            at -= 8 * from->out_size; /* wraps once it was done */
            rv = results[i] = pass(from, sides[(i + 1) % 2], 40);
        }
        cr_assert(rv < 0, "bit %zu", bit);
        cr_assert(ne(int, results[3], 1));
    }
}

/* Half of it is no answer yet. */
Test(handshake, half_is_waited_for)
{
    begin(SECRET, SECRET);
    cr_assert(eq(int, handshake_feed(&called, caller.out, HANDSHAKE_HELLO - 1), 0));
    cr_assert(eq(sz, called.out_size, 0));
    cr_assert(eq(sz, handshake_wants(&called), 1));
}
