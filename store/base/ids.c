#include "store/base/ids.h"

#include <openssl/sha.h>
#include <xxhash.h>

#include "store/base/check.h"

struct conv_id conv_id_of(struct span conv)
{
    XXH128_hash_t hash = XXH3_128bits(conv.p, conv.n);
    return (struct conv_id){hash.high64, hash.low64};
}

struct conv_id user_log_id(struct span user)
{
    ASSERT(user.n <= USER_MAX);
    char key[2 + USER_MAX] = {'u', 0};
    memcpy(key + 2, user.p, user.n);
    return conv_id_of(span_of(key, 2 + user.n));
}

uint32_t partition_of(struct conv_id id, uint32_t partitions)
{
    ASSERT(partitions > 0 && partitions <= PARTITIONS_MAX);
    return (uint32_t)(id.hi % partitions);
}

/* 16 bytes as 26 digits of RFC 4648 base32, lower case. */
static void base32(const unsigned char *bytes, char *out)
{
    static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
    unsigned bits = 0, held = 0;
    for (int i = 0; i < 16; i++) {
        bits = bits << 8 | bytes[i];
        held += 8;
        while (held >= 5) {
            held -= 5;
            *out++ = digits[bits >> held & 31];
        }
    }
    *out++ = digits[bits << (5 - held) & 31];
    *out = 0;
}

static void made_id(char kind, struct span a, struct span b, char *out)
{
    unsigned char text[3 + 2 * USER_MAX], hash[SHA256_DIGEST_LENGTH];
    ASSERT(a.n <= USER_MAX && b.n <= USER_MAX);
    text[0] = (unsigned char)kind;
    text[1] = (unsigned char)a.n;
    memcpy(text + 2, a.p, a.n);
    text[2 + a.n] = (unsigned char)b.n;
    memcpy(text + 3 + a.n, b.p, b.n);
    if (SHA256(text, 3 + a.n + b.n, hash) == NULL) /* an id of what was there before would stay */
        check_no_memory(0);
    out[0] = kind;
    out[1] = '-';
    base32(hash, out + 2);
}

void direct_id(struct span user, struct span with, char out[MADE_ID_SIZE + 1])
{
    size_t shorter = user.n < with.n ? user.n : with.n;
    int order = memcmp(user.p, with.p, shorter);
    bool first = order < 0 || (order == 0 && user.n <= with.n);
    made_id('d', first ? user : with, first ? with : user, out);
}

void group_id(struct span user, struct span cid, char out[MADE_ID_SIZE + 1])
{
    made_id('g', user, cid, out);
}

bool user_valid(struct span user)
{
    for (size_t i = 0; i < user.n; i++) {
        char c = user.p[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!alnum && c != '.' && c != '_' && c != '@' && c != '-')
            return false;
    }
    return user.n > 0 && user.n <= USER_MAX;
}

bool conv_name_valid(struct span conv)
{
    if (conv.n == 0 || conv.n > CONV_ID_MAX)
        return false;
    for (size_t i = 0; i < conv.n; i++)
        if (conv.p[i] <= ' ' || conv.p[i] > '~' || conv.p[i] == '/' || conv.p[i] == '"')
            return false;
    return true;
}

bool lang_valid(struct span lang)
{
    for (size_t i = 0; i < lang.n; i++)
        if (lang.p[i] < 'a' || lang.p[i] > 'z')
            return false;
    return lang.n == 0 || (lang.n >= 2 && lang.n <= LANG_MAX);
}
