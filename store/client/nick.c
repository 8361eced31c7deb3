#include "store/client/nick.h"

#include <xxhash.h>

#include "store/base/check.h"

enum { HASH_DIGITS = 32, MARK_SIZE = 2, FRONT_MAX = USER_MAX - HASH_DIGITS - MARK_SIZE };

static const char DIGITS[] = "0123456789abcdef";

static bool is_letter(unsigned char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool is_plain(unsigned char c)
{
    return is_letter(c) || (c >= '0' && c <= '9') || c == '_' || c == '@' || c == '-';
}

static bool dot_stays(struct span nick, size_t at)
{
    if (at + 1 == nick.n)
        return false;
    unsigned char next = (unsigned char)nick.p[at + 1];
    return next == '_' || next == '@' || (is_letter(next) && !(next >= 'a' && next <= 'f'));
}

static size_t user_hashed(struct span nick, char *user, size_t front)
{
    XXH128_hash_t hash = XXH3_128bits(nick.p, nick.n);
    uint64_t halves[2] = {hash.high64, hash.low64};
    char *at = user + front;
    *at++ = '.';
    *at++ = '-';
    for (int half = 0; half < 2; half++)
        for (int shift = 60; shift >= 0; shift -= 4)
            *at++ = DIGITS[halves[half] >> shift & 15];
    *at = 0;
    ASSERT(at <= user + USER_MAX);
    return (size_t)(at - user);
}

size_t nick_user(struct span nick, char user[USER_MAX + 1])
{
    if (nick.n == 0) {
        struct span name = span_str(nick.p == NULL ? NICK_NOBODY : "empty.");
        memcpy(user, name.p, name.n);
        user[name.n] = 0;
        return name.n;
    }
    size_t n = 0, front = 0; /* front: whole characters that a hash leaves room for */
    for (size_t i = 0; i < nick.n; i++) {
        unsigned char c = (unsigned char)nick.p[i];
        bool one = is_plain(c) || (c == '.' && dot_stays(nick, i));
        if (n + (one ? 1 : 3) > USER_MAX)
            return user_hashed(nick, user, front);
        if (one) {
            user[n++] = (char)c;
        } else {
            user[n++] = '.';
            user[n++] = DIGITS[c >> 4];
            user[n++] = DIGITS[c & 15];
        }
        if (n <= FRONT_MAX)
            front = n;
    }
    user[n] = 0;
    return n;
}
