/* gateway/echo.h: --ws-echo: sends every WebSocket message back as it came, text or binary, so that
 * conformance suites can be run from outside against the layer that the gateway speaks through
 * (http.h, ws.h, out.h). No store, no tokens, any path, any origin: nothing for real clients.
 * Bounds: ECHO_CONNS_MAX connections, ECHO_MESSAGE_MAX bytes of a message (1009); a connection is
 *         read only while less than ECHO_OUT_HIGH waits to be written to it, so that at most that,
 *         one message, and what ECHO_IN_BYTES can hold (1,032 times as much when compressed) wait.
 * Thread: the caller's alone. */
#ifndef LOQUAT_GATEWAY_ECHO_H
#define LOQUAT_GATEWAY_ECHO_H

enum {
    ECHO_CONNS_MAX = 64, /* above: closed at once */
    ECHO_MESSAGE_MAX = (16 << 20) + (64 << 10),
    ECHO_OUT_HIGH = 4 << 20,
    ECHO_IN_BYTES = 16 << 10, /* read from a socket at once */
    ECHO_HEAD_MS = 10000,     /* for the handshake */
    ECHO_FLUSH_MS = 5000,     /* for what waits when a connection is to be closed */
    ECHO_LINGER_MS = 2000,    /* and then for the other side to close */
};

/* Takes the listening socket. Prints `ready listen=ADDRESS`; returns after SIGTERM or SIGINT, when
 * every connection was told (1001) and closed. The caller must not have blocked these signals. */
void echo_serve(int listen_fd, const char *address);

#endif
