/* tests/lib/wsraw.h: WebSocket frames byte by byte, wrong ones too. Appended to `out`. */
#ifndef LOQUAT_TESTS_WSRAW_H
#define LOQUAT_TESTS_WSRAW_H

#include "store/base/buf.h"

/* `first`: FIN, RSV and opcode. The head says `n` bytes of payload, and a mask without its key. */
void wsraw_head(struct buf *out, int first, bool masked, uint64_t n);
void wsraw_frame(struct buf *out, int first, bool masked, struct span payload);
void wsraw_text(struct buf *out, int first, const char *text);   /* masked */
void wsraw_close(struct buf *out, int code, const char *reason); /* masked */
void wsraw_fill(struct buf *out, char byte, size_t n);

#endif
