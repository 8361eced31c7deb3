/* Frames are wslay's: its frame API parses heads, checks lengths and unmasks, byte by byte; the
 * commonest are taken here, eight at a time (whole_message). Messages are put together here, and
 * not by its event API, because that one judges a close frame differently when it comes in pieces
 * (1.1.1 skips two bytes of the reason in every piece), answers a close payload of one byte, queues
 * pongs without limit, and keeps a heap block per fragment however small. */
#include "store/base/ws.h"

#include <stdlib.h>
#include <wslay/wslay.h>

#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/utf8.h"
#include "store/base/ws_deflate.h"

enum {
    CONTROL_MAX = 125, /* payload of a control frame */
    REASON_MAX = CONTROL_MAX - 2,
    MASK_SIZE = 4,
    RSV1 = 0x40,            /* of a frame's first byte: the message is compressed */
    SPARE_MAX = 64,         /* contexts kept for the next bytes */
    SPARE_BYTES_MAX = 65536 /* that a spare context may keep for messages */
};

enum {
    FLAG_CLOSED = 1,  /* a close frame was sent, or the connection is over */
    FLAG_OVER = 2,    /* ws_close: no callback any more */
    FLAG_FEEDING = 4, /* the context is in use */
};

struct context {
    wslay_frame_context_ptr frames;
    struct context *next; /* spare ones */
    struct ws *ws;
    struct span in;    /* what wslay has not taken yet */
    uint64_t fed, due; /* bytes given to wslay; size of the frames that began among them */
    struct wslay_frame_iocb frame;
    uint64_t left;   /* payload bytes of `frame` still to come */
    bool in_frame;   /* `frame` is not complete */
    uint8_t message; /* opcode of the message that is open, 0: none */
    bool compressed; /* that message */
    struct utf8 utf8;
    struct buf bytes; /* the open message so far */
    size_t control_n;
    uint8_t control[CONTROL_MAX];
    struct buf pongs; /* owed since this ws_feed began */
};

struct ws_pool {
    size_t message_max;
    bool server;
    size_t in_use, spare_count;
    struct context *spare;
    struct ws_zip *zip; /* made when permessage-deflate is first in force */
    struct buf text;    /* scratch: an inflated message */
};

/* ---- contexts ---- */

static ssize_t ws_on_recv(uint8_t *out, size_t n, int flags, void *data)
{
    (void)flags;
    struct context *context = data;
    if (context->in.n == 0)
        return -1;
    n = n < context->in.n ? n : context->in.n;
    memcpy(out, context->in.p, n);
    context->in = span_of(context->in.p + n, context->in.n - n);
    context->fed += n;
    return (ssize_t)n;
}

static struct context *context_new(void)
{
    static const struct wslay_frame_callbacks CALLBACKS = {.recv_callback = ws_on_recv};
    struct context *context = xcalloc(1, sizeof *context);
    int rv = wslay_frame_context_init(&context->frames, &CALLBACKS, context);
    if (rv != 0) /* it only allocates */
        check_no_memory(0);
    return context;
}

static void context_free(struct context *context)
{
    wslay_frame_context_free(context->frames);
    buf_close(&context->bytes);
    buf_close(&context->pongs);
    free(context);
}

static bool at_rest(const struct context *context)
{
    return context->fed == context->due && context->message == 0;
}

static void take(struct ws *ws)
{
    struct ws_pool *pool = ws->pool;
    struct context *context = pool->spare;
    if (context != NULL) {
        pool->spare = context->next;
        pool->spare_count--;
    } else {
        context = context_new();
    }
    context->ws = ws;
    ws->context = context;
    pool->in_use++;
}

static void give_back(struct ws *ws)
{
    struct ws_pool *pool = ws->pool;
    struct context *context = ws->context;
    ws->context = NULL;
    pool->in_use--;
    if (!at_rest(context) || pool->spare_count >= SPARE_MAX) {
        context_free(context); /* wslay's can't be reset in the middle of a frame */
        return;
    }
    if (context->bytes.cap > SPARE_BYTES_MAX)
        buf_close(&context->bytes);
    context->pongs.n = 0;
    context->fed = context->due = 0;
    context->in_frame = false; /* a frame that was refused may be complete */
    context->ws = NULL;
    context->next = pool->spare;
    pool->spare = context;
    pool->spare_count++;
}

struct ws_pool *ws_pool_new(size_t message_max, bool server)
{
    struct ws_pool *pool = xcalloc(1, sizeof *pool);
    pool->message_max = message_max;
    pool->server = server;
    return pool;
}

void ws_pool_free(struct ws_pool *pool)
{
    if (pool == NULL)
        return;
    ASSERT(pool->in_use == 0);
    while (pool->spare != NULL) {
        struct context *context = pool->spare;
        pool->spare = context->next;
        context_free(context);
    }
    ws_zip_free(pool->zip);
    buf_close(&pool->text);
    free(pool);
}

static struct ws_zip *zip_of(struct ws_pool *pool)
{
    if (pool->zip == NULL)
        pool->zip = ws_zip_new();
    return pool->zip;
}

size_t ws_pool_in_use(const struct ws_pool *pool)
{
    return pool->in_use;
}

/* ---- what goes out ---- */

static size_t put_head(char *head, uint8_t first, uint8_t mask_bit, size_t n)
{
    head[0] = (char)first;
    if (n < 126) {
        head[1] = (char)(mask_bit | n);
        return 2;
    }
    if (n <= UINT16_MAX) {
        head[1] = (char)(mask_bit | 126);
        put_be16(head + 2, (uint16_t)n);
        return 4;
    }
    head[1] = (char)(mask_bit | 127);
    put_be64(head + 2, n);
    return 10;
}

static void add_masked(struct buf *out, uint8_t opcode, struct span payload)
{
    char head[WS_HEAD_MAX], key[MASK_SIZE];
    buf_add(out, head, put_head(head, 0x80 | opcode, 0x80, payload.n));
    random_bytes(key, sizeof key);
    buf_add(out, key, sizeof key);
    char *to = buf_grow(out, payload.n);
    for (size_t i = 0; i < payload.n; i++)
        to[i] = (char)(payload.p[i] ^ key[i % MASK_SIZE]);
}

static void add_control(struct buf *out, bool server, uint8_t opcode, struct span payload)
{
    ASSERT(payload.n <= CONTROL_MAX);
    if (!server) {
        add_masked(out, opcode, payload);
        return;
    }
    char head[WS_HEAD_MAX];
    buf_add(out, head, put_head(head, 0x80 | opcode, 0, payload.n));
    buf_add_span(out, payload);
}

static void flush_pongs(struct ws *ws)
{
    struct context *context = ws->context;
    if (context == NULL || context->pongs.n == 0)
        return;
    struct span owed = buf_span(&context->pongs);
    context->pongs.n = 0;
    ws->ops->on_output(ws, owed);
}

/* `code` 0: a close frame without a payload. */
static void send_close(struct ws *ws, int code, struct span reason)
{
    char payload[CONTROL_MAX];
    size_t n = 0;
    if (code != 0) {
        put_be16(payload, (uint16_t)code);
        memcpy(payload + 2, reason.p, reason.n);
        n = 2 + reason.n;
    }
    flush_pongs(ws);
    ws->flags |= FLAG_CLOSED;
    struct buf frame = {0};
    add_control(&frame, ws->pool->server, WSLAY_CONNECTION_CLOSE, span_of(payload, n));
    ws->ops->on_output(ws, buf_span(&frame));
    buf_close(&frame);
}

static void tell_close(struct ws *ws, int code)
{
    if (!(ws->flags & FLAG_OVER))
        ws->ops->on_close(ws, code);
}

void ws_send_close(struct ws *ws, int code, const char *reason)
{
    ASSERT(code >= 1000 && code <= 4999);
    if (ws->flags & FLAG_CLOSED)
        return;
    struct span text = span_of(reason, strlen(reason));
    if (text.n > REASON_MAX) {
        text.n = REASON_MAX; /* cut between characters */
        while (text.n > 0 && ((uint8_t)text.p[text.n] & 0xc0) == 0x80)
            text.n--;
    }
    send_close(ws, code, text);
}

size_t ws_frame_head(char head[WS_HEAD_MAX], size_t payload_size)
{
    return put_head(head, 0x80 | WSLAY_TEXT_FRAME, 0, payload_size);
}

bool ws_deflate_frame(struct ws_pool *pool, struct span text, struct buf *out)
{
    size_t before = out->n;
    buf_grow(out, WS_HEAD_MAX); /* the longest head: how long it is depends on what comes after */
    if (!ws_zip_deflate(zip_of(pool), text, out)) {
        out->n = before;
        return false;
    }
    size_t n = out->n - before - WS_HEAD_MAX;
    size_t head = put_head(out->p + before, 0x80 | RSV1 | WSLAY_TEXT_FRAME, 0, n);
    memmove(out->p + before + head, out->p + before + WS_HEAD_MAX, n);
    out->n = before + head + n;
    return true;
}

bool ws_deflate_fits(const struct ws *ws, size_t text_size)
{
    return ws->deflate_bits >= WS_DEFLATE_WINDOW_BITS ||
           (ws->deflate_bits != 0 && text_size <= (size_t)1 << ws->deflate_bits);
}

void ws_frame_masked(struct buf *out, struct span text)
{
    add_masked(out, WSLAY_TEXT_FRAME, text);
}

void ws_ping_masked(struct buf *out)
{
    add_masked(out, WSLAY_PING, (struct span){0});
}

/* ---- what comes in: each step returns 0 or the code to close with ---- */

static int begin_data(struct context *context)
{
    const struct ws *ws = context->ws;
    uint8_t opcode = context->frame.opcode;
    if ((opcode == WSLAY_CONTINUATION_FRAME) != (context->message != 0))
        return WSLAY_CODE_PROTOCOL_ERROR;
    if (opcode == WSLAY_BINARY_FRAME && ws->ops->on_binary == NULL)
        return WSLAY_CODE_UNSUPPORTED_DATA;
    if (opcode != WSLAY_CONTINUATION_FRAME) {
        context->message = opcode;
        context->compressed = context->frame.rsv != 0;
        context->utf8 = (struct utf8){0};
    }
    size_t max = ws->pool->message_max;
    if (context->compressed)
        max = ws_zip_payload_max(max);
    ASSERT(context->bytes.n <= max);
    return context->frame.payload_length > max - context->bytes.n ? WSLAY_CODE_MESSAGE_TOO_BIG : 0;
}

static bool rsv_fits(const struct context *context)
{
    uint8_t opcode = context->frame.opcode;
    bool first = opcode == WSLAY_TEXT_FRAME || opcode == WSLAY_BINARY_FRAME;
    uint8_t allowed = first && context->ws->deflate_bits != 0 ? WSLAY_RSV1_BIT : 0;
    return (context->frame.rsv & ~allowed) == 0;
}

static int begin_frame(struct context *context)
{
    const struct wslay_frame_iocb *frame = &context->frame;
    size_t length_size = frame->payload_length < 126           ? 0
                         : frame->payload_length <= UINT16_MAX ? 2
                                                               : 8;
    context->due += 2 + length_size + (frame->mask ? MASK_SIZE : 0) + frame->payload_length;
    context->left = frame->payload_length;
    context->in_frame = true;
    context->control_n = 0;
    if (!rsv_fits(context) || (frame->mask != 0) != context->ws->pool->server)
        return WSLAY_CODE_PROTOCOL_ERROR;
    switch (frame->opcode) {
    case WSLAY_CONTINUATION_FRAME:
    case WSLAY_TEXT_FRAME:
    case WSLAY_BINARY_FRAME:
        return begin_data(context);
    case WSLAY_CONNECTION_CLOSE:
        return frame->payload_length == 1 ? WSLAY_CODE_PROTOCOL_ERROR : 0;
    case WSLAY_PING:
    case WSLAY_PONG:
        return 0;
    default:
        return WSLAY_CODE_PROTOCOL_ERROR;
    }
}

static bool close_code_fits(int code)
{
    return (code >= 1000 && code <= 1014 && (code < 1004 || code > 1006)) ||
           (code >= 3000 && code <= 4999);
}

static int on_close_frame(struct context *context)
{
    struct ws *ws = context->ws;
    struct utf8 utf8 = {0};
    int code = 0;
    if (context->control_n > 0) {
        code = get_be16(context->control);
        if (!close_code_fits(code))
            return WSLAY_CODE_PROTOCOL_ERROR;
        if (!utf8_take(&utf8, context->control + 2, context->control_n - 2) || utf8.more > 0)
            return WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA;
    }
    send_close(ws, code, span_of("", 0));
    tell_close(ws, code != 0 ? code : WSLAY_CODE_NO_STATUS_RCVD);
    return 0;
}

/* Above the bound only the latest ping is answered, which RFC 6455, 5.5.3 allows. */
static void on_ping_frame(struct context *context)
{
    struct span payload = span_of(context->control, context->control_n);
    if (context->pongs.n + WS_HEAD_MAX + payload.n > WS_CONTROL_OUT_MAX)
        context->pongs.n = 0;
    add_control(&context->pongs, context->ws->pool->server, WSLAY_PONG, payload);
}

static int end_message(struct context *context, struct span bytes)
{
    struct ws *ws = context->ws;
    uint8_t opcode = context->message;
    if (opcode == WSLAY_TEXT_FRAME && context->utf8.more > 0)
        return WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA;
    context->message = 0;
    flush_pongs(ws); /* before what answers the message */
    if (ws->flags & FLAG_CLOSED)
        return 0;
    if (opcode == WSLAY_TEXT_FRAME)
        ws->ops->on_message(ws, bytes);
    else
        ws->ops->on_binary(ws, bytes);
    context->bytes.n = 0;
    return 0;
}

/* The scratch memory is taken out of the pool: the callback may feed another connection of it. */
static int end_compressed(struct context *context, struct span payload)
{
    struct ws_pool *pool = context->ws->pool;
    struct buf text = pool->text;
    pool->text = (struct buf){0};
    int err = ws_zip_inflate(zip_of(pool), payload, pool->message_max, &text);
    int code = err == ERR_TOO_LARGE ? WSLAY_CODE_MESSAGE_TOO_BIG
               : err != 0           ? WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA
                                    : 0;
    if (code == 0 && context->message == WSLAY_TEXT_FRAME &&
        !utf8_take(&context->utf8, (const uint8_t *)text.p, text.n))
        code = WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA;
    if (code == 0)
        code = end_message(context, buf_span(&text));
    if (pool->text.p == NULL && text.cap <= SPARE_BYTES_MAX)
        pool->text = text;
    else
        buf_close(&text);
    return code;
}

static int take_control(struct context *context, struct span piece)
{
    ASSERT(context->control_n + piece.n <= CONTROL_MAX); /* wslay refuses longer ones */
    memcpy(context->control + context->control_n, piece.p, piece.n);
    context->control_n += piece.n;
    if (context->left > 0)
        return 0;
    if (context->frame.opcode == WSLAY_CONNECTION_CLOSE)
        return on_close_frame(context);
    if (context->frame.opcode == WSLAY_PING)
        on_ping_frame(context);
    else if (context->ws->ops->on_pong != NULL)
        context->ws->ops->on_pong(context->ws);
    return 0;
}

static int take_data(struct context *context, struct span piece)
{
    if (context->message == WSLAY_TEXT_FRAME && !context->compressed &&
        !utf8_take(&context->utf8, (const uint8_t *)piece.p, piece.n))
        return WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA;
    bool last = context->left == 0 && context->frame.fin;
    if (!last || context->bytes.n > 0) { /* else it is whole in wslay's buffer */
        buf_add_span(&context->bytes, piece);
        piece = buf_span(&context->bytes);
    }
    if (!last)
        return 0;
    return context->compressed ? end_compressed(context, piece) : end_message(context, piece);
}

static void unmask(char *to, const char *from, size_t n, const char *key)
{
    uint64_t twice = (uint64_t)get_le32(key) << 32 | get_le32(key);
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        put_le64(to + i, get_le64(from + i) ^ twice);
    for (; i < n; i++)
        to[i] = (char)(from[i] ^ key[i % MASK_SIZE]);
}

/* What nearly every client sends nearly always: a message in one masked frame, of which all is
 * there. Anything else is wslay's. */
static bool whole_message(struct context *context, struct wslay_frame_iocb *frame)
{
    struct span in = context->in;
    if (context->fed != context->due || context->message != 0 || in.n < 4 + MASK_SIZE)
        return false;
    uint8_t first = (uint8_t)in.p[0], opcode = first & 15;
    size_t n = in.p[1] & 127, head = 2;
    if (!(first & 0x80) || !(in.p[1] & 0x80) || n == 127 ||
        (opcode != WSLAY_TEXT_FRAME && opcode != WSLAY_BINARY_FRAME))
        return false;
    if (n == 126) {
        n = get_be16(in.p + 2);
        head = 4;
    }
    if ((head == 4 && n < 126) || in.n < head + MASK_SIZE + n)
        return false;
    buf_reserve(&context->bytes, n + 1);
    unmask(context->bytes.p, in.p + head + MASK_SIZE, n, in.p + head);
    *frame = (struct wslay_frame_iocb){.fin = 1,
                                       .rsv = first >> 4 & 7,
                                       .opcode = opcode,
                                       .payload_length = n,
                                       .mask = 1,
                                       .data = (const uint8_t *)context->bytes.p,
                                       .data_length = n};
    head += MASK_SIZE + n;
    context->in = span_of(in.p + head, in.n - head);
    context->fed += head;
    return true;
}

static int take_bytes(struct context *context)
{
    while (!(context->ws->flags & FLAG_CLOSED)) {
        struct wslay_frame_iocb frame = {0};
        if (!whole_message(context, &frame)) {
            ssize_t n = wslay_frame_recv(context->frames, &frame);
            if (n == WSLAY_ERR_WANT_READ)
                return 0;
            if (n < 0)
                return WSLAY_CODE_PROTOCOL_ERROR;
        }
        int code = 0;
        if (!context->in_frame) {
            context->frame = frame;
            code = begin_frame(context);
        }
        if (code != 0)
            return code;
        context->left -= frame.data_length;
        context->in_frame = context->left > 0;
        struct span piece = span_of(frame.data, frame.data_length);
        code = wslay_is_ctrl_frame(frame.opcode) ? take_control(context, piece)
                                                 : take_data(context, piece);
        if (code != 0)
            return code;
    }
    return 0;
}

int ws_feed(struct ws *ws, const char *bytes, size_t n)
{
    if (ws->flags & FLAG_CLOSED)
        return ERR_CLOSED;
    if (n == 0)
        return 0;
    if (ws->context == NULL)
        take(ws);
    struct context *context = ws->context;
    ASSERT(!(ws->flags & FLAG_FEEDING));
    ws->flags |= FLAG_FEEDING;
    context->in = span_of(bytes, n);
    int code = take_bytes(context);
    if (code != 0 && !(ws->flags & FLAG_CLOSED)) {
        send_close(ws, code, span_of("", 0));
        tell_close(ws, code);
    }
    if (!(ws->flags & FLAG_CLOSED))
        flush_pongs(ws);
    ws->flags &= ~(uint32_t)FLAG_FEEDING;
    if (ws->flags & FLAG_CLOSED || at_rest(context))
        give_back(ws);
    return ws->flags & FLAG_CLOSED ? ERR_CLOSED : 0;
}

/* ---- a connection's part ---- */

void ws_init(struct ws *ws, struct ws_pool *pool, const struct ws_ops *ops)
{
    ASSERT(ops->on_message != NULL && ops->on_output != NULL && ops->on_close != NULL);
    *ws = (struct ws){.pool = pool, .ops = ops};
}

void ws_use_deflate(struct ws *ws, int window_bits)
{
    ASSERT(window_bits >= WS_DEFLATE_WINDOW_BITS_MIN && window_bits <= WS_DEFLATE_WINDOW_BITS_MAX);
    ASSERT(ws->context == NULL);
    ws->deflate_bits = (uint8_t)window_bits;
}

void ws_close(struct ws *ws)
{
    ws->flags |= FLAG_CLOSED | FLAG_OVER;
    if (ws->context != NULL && !(ws->flags & FLAG_FEEDING))
        give_back(ws);
}

bool ws_has_context(const struct ws *ws)
{
    return ws->context != NULL;
}
