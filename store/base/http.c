#include "store/base/http.h"

#include <llhttp.h>
#include <stdlib.h>
#include <strings.h>

#include "store/base/check.h"
#include "store/base/err.h"

enum { URL_MAX = 8192, LENGTH_DIGITS_MAX = 15 };

enum phase {
    PHASE_HEAD, /* collecting until the empty line */
    PHASE_BODY, /* the head was accepted; llhttp follows the body */
    PHASE_DONE, /* the message is complete and was handed out */
    PHASE_UPGRADED,
    PHASE_FAILED,
};

struct http {
    llhttp_t parser;
    bool request, stream;
    enum phase phase;
    bool complete;     /* set by llhttp at the end of the message */
    bool websocket;    /* the head asks for it */
    bool ends_with_cr; /* what llhttp took of the body */
    size_t body_max;
    struct buf in;         /* bytes not yet taken */
    struct buf head, body; /* of the message in work; its spans point here */
    int status;
};

/* ---- llhttp's side ---- */

/* Of all protocols only WebSocket is followed; its handshake has no body. */
static int on_headers_complete(llhttp_t *parser)
{
    const struct http *http = parser->data;
    bool method = !http->request || parser->method == HTTP_GET;
    parser->upgrade = parser->upgrade && http->websocket && method;
    if (!parser->upgrade)
        return 0;
    bool body = (parser->flags & F_CHUNKED) != 0 || parser->content_length > 0;
    return body ? -1 : 2; /* 2: what follows is another protocol */
}

/* Trailers: where they end is what parsers disagree on, and nobody needs them here. */
static int on_header_field(llhttp_t *parser, const char *at, size_t n)
{
    const struct http *http = parser->data;
    (void)at;
    (void)n;
    return http->phase == PHASE_BODY ? HPE_USER : 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t n)
{
    struct http *http = parser->data;
    if (!http->stream && http->body.n + n > http->body_max) {
        http->status = 413;
        return HPE_USER;
    }
    buf_add(&http->body, at, n);
    return 0;
}

static int on_complete(llhttp_t *parser)
{
    struct http *http = parser->data;
    http->complete = true;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_header_field = on_header_field,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_complete,
};

struct http *http_new(bool request, size_t body_max, bool stream_body)
{
    struct http *http = xcalloc(1, sizeof *http);
    http->request = request;
    http->body_max = body_max;
    http->stream = stream_body;
    return http;
}

void http_free(struct http *http)
{
    if (http == NULL)
        return;
    buf_close(&http->in);
    buf_close(&http->head);
    buf_close(&http->body);
    free(http);
}

static int refuse(struct http *http, int status)
{
    http->phase = PHASE_FAILED;
    http->status = status;
    return status == 413 || status == 414 || status == 431 ? ERR_TOO_LARGE : ERR_BAD_REQUEST;
}

/* ---- the guard: what llhttp would let through ---- */

static bool token_char(char c)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != 0 && strchr(others, c) != NULL);
}

static bool is_name(struct span name, const char *what)
{
    return name.n == strlen(what) && strncasecmp(name.p, what, name.n) == 0;
}

static struct span trim(struct span text)
{
    while (text.n > 0 && (text.p[0] == ' ' || text.p[0] == '\t')) {
        text.p++;
        text.n--;
    }
    while (text.n > 0 && (text.p[text.n - 1] == ' ' || text.p[text.n - 1] == '\t'))
        text.n--;
    return text;
}

/* Takes the next line off `rest`, without its end. */
static struct span take_line(struct span *rest)
{
    const char *end = memchr(rest->p, '\r', rest->n);
    ASSERT(end != NULL && (size_t)(end - rest->p) + 1 < rest->n);
    struct span line = span_of(rest->p, (size_t)(end - rest->p));
    *rest = span_of(end + 2, rest->n - line.n - 2);
    return line;
}

/* Every CR is followed by LF and every LF preceded by CR; no control bytes but tab. */
static bool bytes_fit(struct span head)
{
    for (size_t i = 0; i < head.n; i++) {
        unsigned char c = (unsigned char)head.p[i];
        if (c == '\r'   ? i + 1 == head.n || head.p[i + 1] != '\n'
            : c == '\n' ? i == 0 || head.p[i - 1] != '\r'
                        : (c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

static bool split_header(struct span line, struct http_header *header)
{
    const char *colon = memchr(line.p, ':', line.n);
    if (colon == NULL || colon == line.p)
        return false; /* also lines that begin with white space */
    header->name = span_of(line.p, (size_t)(colon - line.p));
    for (size_t i = 0; i < header->name.n; i++)
        if (!token_char(header->name.p[i]))
            return false;
    header->value = trim(span_of(colon + 1, line.n - header->name.n - 1));
    return true;
}

static bool digits_only(struct span text)
{
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
    return text.n > 0 && text.n <= LENGTH_DIGITS_MAX;
}

static bool has_token(struct span list, const char *token)
{
    while (list.n > 0) {
        const char *comma = memchr(list.p, ',', list.n);
        size_t n = comma != NULL ? (size_t)(comma - list.p) : list.n;
        if (is_name(trim(span_of(list.p, n)), token))
            return true;
        n += comma != NULL;
        list = span_of(list.p + n, list.n - n);
    }
    return false;
}

/* 0 or the status to refuse with. */
static int check_first_line(const struct http *http, struct span line, bool *http11)
{
    size_t n = line.n;
    if (!http->request) {
        *http11 = n >= 12 && memcmp(line.p, "HTTP/1.1 ", 9) == 0;
        return *http11 || (n >= 12 && memcmp(line.p, "HTTP/1.0 ", 9) == 0) ? 0 : 400;
    }
    if (n < 14 || memcmp(line.p + n - 9, " HTTP/", 6) != 0 || line.p[n - 2] != '.')
        return 400;
    if (line.p[n - 3] != '1' || (line.p[n - 1] != '0' && line.p[n - 1] != '1'))
        return 505;
    *http11 = line.p[n - 1] == '1';
    const char *space = memchr(line.p, ' ', n);
    if (space == NULL || space == line.p || space >= line.p + n - 9)
        return 400;
    size_t url = (size_t)(line.p + n - 9 - space) - 1;
    if (url > URL_MAX)
        return 414;
    return memchr(space + 1, ' ', url) != NULL || (space[1] != '/' && space[1] != '*') ? 400 : 0;
}

static int check_head(struct http *http)
{
    struct span rest = buf_span(&http->head);
    if (!bytes_fit(rest))
        return 400;
    bool http11 = false;
    int status = check_first_line(http, take_line(&rest), &http11);
    if (status != 0)
        return status;
    int hosts = 0, lengths = 0, codings = 0, count = 0;
    http->websocket = false;
    for (struct span line = take_line(&rest); line.n > 0; line = take_line(&rest)) {
        struct http_header header;
        if (!split_header(line, &header))
            return 400;
        if (++count > HTTP_HEADERS_MAX)
            return 431;
        if (is_name(header.name, "host"))
            hosts++;
        if (is_name(header.name, "upgrade"))
            http->websocket |= http11 && has_token(header.value, "websocket");
        if (is_name(header.name, "content-length")) {
            if (++lengths > 1 || !digits_only(header.value))
                return 400;
            if (!http->stream && strtoull(header.value.p, NULL, 10) > http->body_max)
                return 413;
        }
        if (is_name(header.name, "transfer-encoding")) {
            if (++codings > 1 || !http11)
                return 400;
            if (!is_name(header.value, "chunked"))
                return 501;
        }
    }
    if (codings > 0 && lengths > 0)
        return 400;
    return http->request && (hosts > 1 || (http11 && hosts == 0)) ? 400 : 0;
}

/* ---- handing out ---- */

static void fill_request_line(struct span line, struct http_msg *msg)
{
    const char *space = memchr(line.p, ' ', line.n);
    msg->method = span_of(line.p, (size_t)(space - line.p));
    struct span url = span_of(space + 1, line.n - msg->method.n - 1 - 9);
    const char *question = memchr(url.p, '?', url.n);
    msg->path = question != NULL ? span_of(url.p, (size_t)(question - url.p)) : url;
    if (question != NULL)
        msg->query = span_of(question + 1, url.n - msg->path.n - 1);
}

static void fill(struct http *http, struct http_msg *msg)
{
    *msg = (struct http_msg){.request = http->request, .upgrade_websocket = http->parser.upgrade};
    struct span rest = buf_span(&http->head);
    struct span first = take_line(&rest);
    if (http->request)
        fill_request_line(first, msg);
    else
        msg->status = http->parser.status_code;
    for (struct span line = take_line(&rest); line.n > 0; line = take_line(&rest)) {
        bool ok = split_header(line, &msg->headers[msg->header_count++]);
        ASSERT(ok);
    }
    if (!http->stream)
        msg->body = buf_span(&http->body);
    msg->keep_alive = llhttp_should_keep_alive(&http->parser) != 0;
}

/* ---- the stream ---- */

/* llhttp takes a bare LF for the empty line after the last chunk. */
static bool end_fits(const struct http *http, size_t used)
{
    if (!(http->parser.flags & F_CHUNKED))
        return true;
    const char *end = http->in.p + used;
    return (used >= 2 ? end[-2] == '\r' : http->ends_with_cr) && end[-1] == '\n';
}

/* Gives llhttp what is there. 0 or an error; takes what was used off `in`. */
static int follow_body(struct http *http)
{
    if (http->in.n == 0)
        return 0;
    enum llhttp_errno rv = llhttp_execute(&http->parser, http->in.p, http->in.n);
    if (rv == HPE_OK) {
        http->ends_with_cr = http->in.p[http->in.n - 1] == '\r';
        http->in.n = 0;
        return 0;
    }
    if (rv == HPE_PAUSED && http->complete) {
        size_t used = (size_t)(llhttp_get_error_pos(&http->parser) - http->in.p);
        if (!end_fits(http, used))
            return refuse(http, 400);
        buf_cut(&http->in, used);
        return 0;
    }
    return refuse(http, http->status != 0 ? http->status : 400);
}

/* The head is whole: guards, then llhttp. */
static int take_head(struct http *http, size_t size)
{
    http->head.n = http->body.n = 0;
    buf_add(&http->head, http->in.p, size);
    buf_cut(&http->in, size);
    int status = check_head(http);
    if (status != 0)
        return refuse(http, status);
    llhttp_init(&http->parser, http->request ? HTTP_REQUEST : HTTP_RESPONSE, &settings);
    http->parser.data = http;
    http->complete = false;
    http->status = 0;
    enum llhttp_errno rv = llhttp_execute(&http->parser, http->head.p, http->head.n);
    bool complete = rv == HPE_PAUSED && http->complete;
    if (rv == HPE_PAUSED_UPGRADE || (complete && http->parser.upgrade))
        http->phase = PHASE_UPGRADED;
    else if (rv == HPE_OK || complete)
        http->phase = PHASE_BODY;
    else
        return refuse(http, 400);
    return 0;
}

static int find_head(struct http *http, size_t *size)
{
    size_t skip = 0; /* empty lines before a request are forgiven */
    while (http->request && skip + 2 <= http->in.n && memcmp(http->in.p + skip, "\r\n", 2) == 0)
        skip += 2;
    buf_cut(&http->in, skip);
    if (http->in.n == 0)
        return 0;
    const char *end = memmem(http->in.p, http->in.n, "\r\n\r\n", 4);
    *size = end != NULL ? (size_t)(end - http->in.p) + 4 : 0;
    if (*size > HTTP_HEAD_MAX || (*size == 0 && http->in.n > HTTP_HEAD_MAX)) {
        const char *line = memchr(http->in.p, '\r', http->in.n);
        bool long_url = http->request && (line == NULL || line - http->in.p > URL_MAX);
        return refuse(http, long_url ? 414 : 431);
    }
    if (*size > 0)
        return 1;
    /* Shapes that never come to an empty line are refused as soon as they can be told. */
    for (size_t i = 0; i < http->in.n; i++) {
        unsigned char c = (unsigned char)http->in.p[i];
        bool bare_lf = c == '\n' && (i == 0 || http->in.p[i - 1] != '\r');
        bool bare_cr = c == '\r' && i + 1 < http->in.n && http->in.p[i + 1] != '\n';
        if (bare_lf || bare_cr || c == 0)
            return refuse(http, 400);
    }
    return 0;
}

static int advance(struct http *http, struct http_msg *msg)
{
    if (http->phase == PHASE_FAILED)
        return ERR_BAD_REQUEST;
    if (http->phase == PHASE_UPGRADED)
        return 0;
    if (http->phase == PHASE_DONE)
        http->phase = PHASE_HEAD;
    if (http->phase == PHASE_HEAD) {
        size_t size = 0;
        int rv = find_head(http, &size);
        if (rv <= 0)
            return rv;
        rv = take_head(http, size);
        if (rv != 0)
            return rv;
        if (http->phase == PHASE_UPGRADED || http->stream) {
            fill(http, msg);
            return 1;
        }
    }
    if (!http->complete) {
        int err = follow_body(http);
        if (err != 0)
            return err;
    }
    if (!http->complete)
        return 0;
    http->phase = PHASE_DONE;
    fill(http, msg);
    return 1;
}

int http_feed(struct http *http, const char *bytes, size_t n, struct http_msg *msg)
{
    buf_add(&http->in, bytes, n);
    if (http->stream && http->phase == PHASE_BODY)
        return 0; /* pieces are asked for */
    return advance(http, msg);
}

int http_next(struct http *http, struct http_msg *msg)
{
    if (http->stream && http->phase == PHASE_BODY)
        return 0;
    return advance(http, msg);
}

int http_body(struct http *http, struct span *piece)
{
    ASSERT(http->stream);
    if (http->phase != PHASE_BODY)
        return http->phase == PHASE_DONE ? 2 : ERR_BAD_REQUEST;
    http->body.n = 0;
    if (!http->complete) {
        int err = follow_body(http);
        if (err != 0)
            return err;
    }
    if (http->body.n > 0) {
        *piece = buf_span(&http->body);
        return 1;
    }
    if (!http->complete)
        return 0;
    http->phase = PHASE_DONE;
    return 2;
}

struct span http_rest(const struct http *http)
{
    return buf_span(&http->in);
}

int http_status(const struct http *http)
{
    return http->status;
}

bool http_idle(const struct http *http)
{
    return http->in.n == 0 && (http->phase == PHASE_HEAD || http->phase == PHASE_DONE);
}

/* ---- small things ---- */

const struct span *http_header_get(const struct http_msg *msg, const char *name)
{
    for (size_t i = 0; i < msg->header_count; i++)
        if (is_name(msg->headers[i].name, name))
            return &msg->headers[i].value;
    return NULL;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static bool decode(struct span in, bool plus, struct buf *out)
{
    out->n = 0;
    for (size_t i = 0; i < in.n; i++) {
        char c = in.p[i];
        if (c == '%') {
            int high = i + 2 < in.n ? hex(in.p[i + 1]) : -1;
            int low = i + 2 < in.n ? hex(in.p[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        buf_add_byte(out, (uint8_t)c);
    }
    return true;
}

bool http_percent_decode(struct span in, struct buf *out)
{
    return decode(in, false, out);
}

bool http_query_get(struct span query, const char *name, struct buf *out)
{
    size_t size = strlen(name);
    while (query.n > 0) {
        const char *end = memchr(query.p, '&', query.n);
        size_t n = end != NULL ? (size_t)(end - query.p) : query.n;
        if (n >= size && memcmp(query.p, name, size) == 0 && (n == size || query.p[size] == '='))
            return decode(span_of(query.p + size + (n > size), n - size - (n > size)), true, out);
        query = end != NULL ? span_of(end + 1, query.n - n - 1) : (struct span){0};
    }
    out->n = 0;
    return false;
}

const char *http_reason(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 201:
        return "Created";
    case 204:
        return "No Content";
    case 304:
        return "Not Modified";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 408:
        return "Request Timeout";
    case 409:
        return "Conflict";
    case 413:
        return "Content Too Large";
    case 414:
        return "URI Too Long";
    case 426:
        return "Upgrade Required";
    case 429:
        return "Too Many Requests";
    case 431:
        return "Request Header Fields Too Large";
    case 500:
        return "Internal Server Error";
    case 501:
        return "Not Implemented";
    case 503:
        return "Service Unavailable";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Unknown";
    }
}
