/* tests/lib/rawdeflate.h: payloads of permessage-deflate made and read by zlib itself. */
#ifndef LOQUAT_TESTS_RAWDEFLATE_H
#define LOQUAT_TESTS_RAWDEFLATE_H

#include "store/base/buf.h"

/* Appends the payload of a message. `level` 0: stored blocks; `window_bits` 9..15; `final`: ends
 * with a final block and an octet of padding instead of a flush. */
void rawdeflate(struct buf *out, struct span text, int level, int window_bits, bool final);
/* Appends the text; false when it is none, or refers further back than 1 << window_bits (8..15). */
bool rawinflate(struct buf *out, struct span payload, int window_bits);
/* Appends `n` bytes of ASCII: like messages, or as hard to compress as seven bits can be. */
void rawdeflate_chat(struct buf *out, size_t n);
void rawdeflate_noise(struct buf *out, size_t n);

#endif
