#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "store/base/jwt.h"
#include "store/client/nick.h"

static const char *user_of(const char *nick)
{
    static char user[USER_MAX + 1];
    size_t n = nick_user(span_str(nick), user);
    cr_assert(eq(sz, n, strlen(user)));
    return user;
}

/* Ordinary nicknames are their own ids. */
Test(nick, plain_stays)
{
    cr_assert(eq(str, (char *)user_of("AdventureBear"), "AdventureBear"));
    cr_assert(eq(str, (char *)user_of("john.smith"), "john.smith"));
    cr_assert(eq(str, (char *)user_of("a-b_c@d9"), "a-b_c@d9"));
}

/* Other bytes are written in hex, and what looks like that is, too. */
Test(nick, others_are_escaped)
{
    cr_assert(eq(str, (char *)user_of("qos|away"), "qos.7caway"));
    cr_assert(eq(str, (char *)user_of("qos.7caway"), "qos.2e7caway"));
    cr_assert(eq(str, (char *)user_of("a."), "a.2e"));
    cr_assert(eq(str, (char *)user_of("a.-b"), "a.2e-b"));
    cr_assert(eq(str, (char *)user_of("くま"), ".e3.81.8f.e3.81.be"));
    cr_assert(eq(str, (char *)user_of("a b\n"), "a.20b.0a"));
}

/* Nobody and the empty nickname have ids that no nickname gets. */
Test(nick, nobody_is_nobody_else)
{
    char user[USER_MAX + 1];
    nick_user((struct span){0}, user);
    cr_assert(eq(str, user, NICK_NOBODY));
    cr_assert(eq(str, (char *)user_of(""), "empty."));
    cr_assert(eq(str, (char *)user_of("system."), "system.2e"));
    cr_assert(eq(str, (char *)user_of("empty."), "empty.2e"));
}

/* Long ones keep their front, stay apart, and an escape is never cut. */
Test(nick, long_ones_end_with_a_hash)
{
    char a[200], b[200], first[USER_MAX + 1], second[USER_MAX + 1];
    memset(a, 'x', sizeof a);
    memset(b, 'x', sizeof b);
    b[199] = 'y';
    cr_assert(le(sz, nick_user(span_of(a, sizeof a), first), USER_MAX));
    cr_assert(le(sz, nick_user(span_of(b, sizeof b), second), USER_MAX));
    cr_assert(ne(str, first, second));
    cr_assert(user_valid(span_str(first)));
    cr_assert(eq(int, strncmp(first, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.-", 32), 0));
    char escapes[USER_MAX + 1];
    nick_user(span_str("!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!"), escapes);
    cr_assert(eq(int, strncmp(escapes, ".21.21.21.21.21.21.21.21.21.21.-", 32), 0));
}

/* Reads an id back: the inverse for what is not hashed. */
static size_t nick_back(const char *user, char *nick)
{
    size_t n = 0;
    static const char HEX[] = "0123456789abcdef";
    for (; *user != 0; user++) {
        if (*user == '.' && user[1] != 0 && strchr(HEX, user[1]) != NULL && user[2] != 0 &&
            strchr(HEX, user[2]) != NULL) {
            nick[n++] = (char)((strchr(HEX, user[1]) - HEX) << 4 | (strchr(HEX, user[2]) - HEX));
            user += 2;
        } else {
            nick[n++] = *user;
        }
    }
    return n;
}

/* No two nicknames share an id: every id leads back to its nickname. All nicknames of up to four
 * bytes over the bytes that matter. */
Test(nick, is_injective)
{
    static const char BYTES[] = ".a2egfZ-_@| \xc3";
    size_t count = sizeof BYTES - 1, total = count * count * count * count;
    for (size_t length = 1; length <= 4; length++) {
        for (size_t i = 0; i < total; i++) {
            char nick[4], user[USER_MAX + 1], back[USER_MAX + 1];
            size_t rest = i;
            for (size_t at = 0; at < length; at++, rest /= count)
                nick[at] = BYTES[rest % count];
            nick_user(span_of(nick, length), user);
            cr_assert(user_valid(span_str(user)), "%s", user);
            cr_assert(strstr(user, ".-") == NULL && user[strlen(user) - 1] != '.', "%s", user);
            size_t n = nick_back(user, back);
            cr_assert(n == length && memcmp(nick, back, n) == 0, "%s", user);
        }
    }
}
