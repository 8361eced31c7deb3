#include "store/client/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "store/base/check.h"
#include "store/base/err.h"

enum { PIECE_SIZE = 256 << 10, ZSTD_WINDOW_LOG_MAX = 27 };

struct source {
    int fd;
    uint64_t at, size;
    bool ended; /* the file has no more bytes */
    bool begun, packed;
    ZSTD_DStream *zstd;
    size_t zstd_owed; /* 0: at the end of a frame */
    ZSTD_inBuffer in; /* over `piece` */
    char *piece;
    struct buf text; /* unpacked, from `from` on not yet handed out */
    size_t from;
    const char *why;
};

struct source *source_open(const char *path)
{
    struct stat st;
    int fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    if (fstat(fd, &st) != 0 || S_ISDIR(st.st_mode)) {
        int problem = S_ISDIR(st.st_mode) ? EISDIR : errno;
        close(fd);
        errno = problem;
        return NULL;
    }
    struct source *source = xcalloc(1, sizeof *source);
    source->fd = fd;
    source->size = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    source->piece = xmalloc(PIECE_SIZE);
    source->why = "";
    return source;
}

void source_close(struct source *source)
{
    if (source == NULL)
        return;
    close(source->fd);
    ZSTD_freeDStream(source->zstd);
    buf_close(&source->text);
    free(source->piece);
    free(source);
}

static int fail(struct source *source, int err, const char *why)
{
    source->why = why;
    return err;
}

static int read_piece(struct source *source)
{
    ssize_t n;
    do
        n = read(source->fd, source->piece, PIECE_SIZE);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return fail(source, ERR_IO, strerror(errno));
    source->ended = n == 0;
    source->at += (uint64_t)n;
    source->in = (ZSTD_inBuffer){source->piece, (size_t)n, 0};
    if (!source->begun && n > 0) {
        static const char MAGIC[] = {0x28, (char)0xb5, 0x2f, (char)0xfd};
        source->begun = true;
        source->packed = n >= 4 && memcmp(source->piece, MAGIC, sizeof MAGIC) == 0;
        source->zstd = source->packed ? ZSTD_createDStream() : NULL;
        if (source->packed && source->zstd == NULL)
            check_no_memory(0);
        if (source->packed)
            ZSTD_DCtx_setParameter(source->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
    }
    return 0;
}

/* More text after what there is; 0 also when there is none any more. */
static int more_text(struct source *source)
{
    if (source->in.pos == source->in.size && !source->ended) {
        int err = read_piece(source);
        if (err != 0)
            return err;
    }
    if (!source->packed) {
        buf_add(&source->text, source->piece + source->in.pos, source->in.size - source->in.pos);
        source->in.pos = source->in.size;
        return 0;
    }
    if (source->ended && source->zstd_owed == 0)
        return 0;
    buf_reserve(&source->text, ZSTD_DStreamOutSize());
    ZSTD_outBuffer out = {source->text.p + source->text.n, ZSTD_DStreamOutSize(), 0};
    size_t owed = ZSTD_decompressStream(source->zstd, &out, &source->in);
    if (ZSTD_isError(owed))
        return fail(source, ERR_CORRUPT, ZSTD_getErrorName(owed));
    if (source->ended && out.pos == 0)
        return fail(source, ERR_CORRUPT, "the compressed file ends too early");
    source->zstd_owed = owed;
    source->text.n += out.pos;
    return 0;
}

int source_line(struct source *source, struct span *line)
{
    size_t looked = source->from;
    for (;;) {
        const char *begin = source->text.p + source->from;
        size_t rest = source->text.n - looked;
        const char *end = rest > 0 ? memchr(source->text.p + looked, '\n', rest) : NULL;
        if (end != NULL) {
            *line = span_of(begin, (size_t)(end - begin));
            source->from += line->n + 1;
            return 1;
        }
        if (source->text.n - source->from > SOURCE_LINE_MAX)
            return fail(source, ERR_TOO_LARGE, "a line is longer than 1 MiB");
        buf_cut(&source->text, source->from);
        source->from = 0;
        looked = source->text.n;
        int err = more_text(source);
        if (err != 0)
            return err;
        if (source->text.n > looked || !source->ended)
            continue;
        *line = buf_span(&source->text); /* a last line without a newline */
        source->from = source->text.n;
        return line->n > 0;
    }
}

uint64_t source_at(const struct source *source)
{
    return source->at;
}

uint64_t source_size(const struct source *source)
{
    return source->size;
}

const char *source_why(const struct source *source)
{
    return source->why;
}
