#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "store/base/ws.h"

/* The example of RFC 6455, 1.3; keys that are not 16 bytes of base64 are refused. */
Test(ws_handshake, accept_follows_from_key)
{
    char accept[WS_ACCEPT_SIZE + 1], key[WS_KEY_SIZE + 1], other[WS_KEY_SIZE + 1];
    cr_assert(ws_accept(span_str("dGhlIHNhbXBsZSBub25jZQ=="), accept));
    cr_assert(eq(str, accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    static const char *const BAD[] = {"",
                                      "dGhlIHNhbXBsZSBub25jZQ",
                                      "dGhlIHNhbXBsZSBub25jZQ=a",
                                      "dGhlIHNhbXBsZSBub25jZ===",
                                      "dGhlIHNhbXBsZSBub25jZ!==",
                                      "dGhlIHNhbXBsZSBub25jZQAA",
                                      "dGhlIHNhbXBsZSBub25jZQ==="};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        cr_assert(not(ws_accept(span_str(BAD[i]), accept)), "%s", BAD[i]);
    ws_key(key);
    ws_key(other);
    cr_assert(ws_accept(span_str(key), accept));
    cr_assert(not(eq(str, key, other)));
}

/* The head in front of shared frames is the shortest that fits. */
Test(ws_handshake, server_heads)
{
    char head[WS_HEAD_MAX];
    cr_assert(eq(sz, ws_frame_head(head, 125), 2));
    cr_assert(eq(int, memcmp(head, "\x81\x7d", 2), 0));
    cr_assert(eq(sz, ws_frame_head(head, 126), 4));
    cr_assert(eq(int, memcmp(head, "\x81\x7e\x00\x7e", 4), 0));
    cr_assert(eq(sz, ws_frame_head(head, 65535), 4));
    cr_assert(eq(sz, ws_frame_head(head, 65536), 10));
    cr_assert(eq(int, memcmp(head, "\x81\x7f\0\0\0\0\0\1\0\0", 10), 0));
}
