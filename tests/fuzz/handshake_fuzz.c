/* First words from anyone: how they are cut changes nothing, and nobody gets through who has not
 * the secret; of a true exchange with bits changed on the way, nobody either.
 * First byte: bit 0 the caller's side is asked, bit 1 the rest is what changes a true exchange.
 * Second: how it is cut. */
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/handshake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SECRET span_str("0123456789abcdef0123456789abcdef")

/* Everything that the side wants, as far as there is something; `cut` bytes at most at once. */
static int feed(struct handshake hs, const char *p, size_t n, size_t cut)
{
    int rv = 0;
    while (n > 0 && rv == 0) {
        size_t size = handshake_wants(&hs) < cut ? handshake_wants(&hs) : cut;
        size = size < n ? size : n;
        rv = handshake_feed(&hs, p, size);
        ASSERT(hs.out_size <= sizeof hs.out);
        hs.out_size = 0;
        p += size;
        n -= size;
    }
    ASSERT(rv == 0 || rv == ERR_CORRUPT || rv == ERR_VERSION || rv == ERR_FORBIDDEN ||
           rv == ERR_UNAUTHORIZED);
    return rv;
}

static void strange(const uint8_t *data, size_t size)
{
    struct handshake hs;
    bool caller = (data[0] & 1) != 0;
    handshake_begin(&hs, caller, caller ? HANDSHAKE_GATEWAY : HANDSHAKE_NODE,
                    caller ? HANDSHAKE_NODE : HANDSHAKE_GATEWAY, SECRET);
    hs.out_size = 0;
    const char *p = (const char *)data + 2;
    int whole = feed(hs, p, size - 2, HANDSHAKE_HELLO);
    ASSERT(feed(hs, p, size - 2, 1 + data[1] % HANDSHAKE_HELLO) == whole);
}

static void changed(const uint8_t *data, size_t size)
{
    struct handshake caller, called, *sides[2] = {&caller, &called};
    handshake_begin(&caller, true, HANDSHAKE_GATEWAY, HANDSHAKE_NODE, SECRET);
    handshake_begin(&called, false, HANDSHAKE_NODE, HANDSHAKE_GATEWAY, SECRET);
    bool same = true;
    size_t at = 2;
    int rv = 0;
    for (int i = 0; i < 4 && rv >= 0; i++) {
        struct handshake *from = sides[i % 2];
        for (size_t k = 0; k < from->out_size && at < size; k++, at++) {
            same = same && data[at] == 0;
            from->out[k] = (char)(from->out[k] ^ data[at]);
        }
        rv = handshake_feed(sides[(i + 1) % 2], from->out, from->out_size);
        from->out_size = 0;
    }
    ASSERT((rv == 1) == same);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 512)
        return 0;
    if ((data[0] & 2) != 0)
        changed(data, size);
    else
        strange(data, size);
    return 0;
}
