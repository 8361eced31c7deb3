#include "store/client/lines.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/base/check.h"

bool lines_on_piece(struct ask *ask, struct span piece)
{
    struct lines *lines = ask->data;
    while (piece.n > 0) {
        const char *end = lines->whole ? NULL : memchr(piece.p, '\n', piece.n);
        size_t n = end != NULL ? (size_t)(end - piece.p) : piece.n;
        if (lines->held.n + n > LINE_MAX_SIZE)
            return false;
        struct span line = span_of(piece.p, n);
        if (end == NULL || lines->held.n > 0) {
            buf_add(&lines->held, piece.p, n);
            line = buf_span(&lines->held);
        }
        if (end == NULL)
            return true;
        lines->held.n = 0;
        if (!lines->fn((struct loquat_text){line.p, line.n}, lines->arg))
            return false;
        piece = span_of(end + 1, piece.n - n - 1);
    }
    return true;
}

int lines_end(struct lines *lines, const struct ask *ask, int err, char *why, size_t why_size)
{
    if (err == 0 && !ask->stopped && lines->held.n > 0)
        lines->fn((struct loquat_text){lines->held.p, lines->held.n}, lines->arg);
    if (err == 0 && ask->stopped && lines->held.n > 0) {
        snprintf(why, why_size, "the server sent a line of more than %d bytes", LINE_MAX_SIZE);
        err = LOQUAT_TOO_LARGE;
    }
    buf_close(&lines->held);
    return err;
}

int loquat_ask(const struct loquat_options *options, const char *method, const char *target,
               const char *body, const char *accept, loquat_line_fn fn, void *arg, char *why,
               size_t why_size)
{
    struct lines lines = {.whole = accept == NULL, .fn = fn, .arg = arg};
    struct ask_place place;
    int err = ask_place_open(&place, options, why, why_size);
    if (err != 0)
        return err;
    struct ask *ask = xcalloc(1, sizeof *ask);
    *ask = (struct ask){.place = &place,
                        .method = method,
                        .target = target,
                        .accept = accept,
                        .body = body,
                        .on_piece = lines_on_piece,
                        .data = &lines};
    err = ask_run(ask, why, why_size);
    err = lines_end(&lines, ask, err, why, why_size);
    free(ask);
    ask_place_close(&place);
    return err;
}

int loquat_get(const struct loquat_options *options, const char *target, const char *accept,
               loquat_line_fn fn, void *arg, char *why, size_t why_size)
{
    return loquat_ask(options, "GET", target, NULL, accept, fn, arg, why, why_size);
}

size_t loquat_path_escape(const char *text, char *out, size_t size)
{
    static const char DIGITS[] = "0123456789ABCDEF";
    static const char PLAIN[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    size_t n = 0;
    for (; *text != 0; text++) {
        bool plain = strchr(PLAIN, *text) != NULL;
        if (n + (plain ? 1 : 3) < size) {
            unsigned char c = (unsigned char)*text;
            out[n] = (char)(plain ? *text : '%');
            if (!plain) {
                out[n + 1] = DIGITS[c >> 4];
                out[n + 2] = DIGITS[c & 15];
            }
        }
        n += plain ? 1 : 3;
    }
    if (size > 0)
        out[n < size ? n : size - 1] = 0;
    return n;
}
