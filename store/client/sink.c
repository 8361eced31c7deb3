#include "store/client/sink.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zstd.h>

#include "store/base/check.h"

enum { ZSTD_LEVEL = 6 };

struct sink {
    FILE *file;
    struct buf path, part; /* end with NUL; empty: standard output */
    ZSTD_CStream *zstd;
    struct buf packed;
    uint64_t size;
};

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

struct sink *sink_open(const char *path)
{
    struct sink *sink = xcalloc(1, sizeof *sink);
    if (path == NULL || strcmp(path, "-") == 0) {
        sink->file = stdout;
        return sink;
    }
    buf_add(&sink->path, path, strlen(path) + 1);
    buf_addf(&sink->part, "%s.part", path);
    buf_add_byte(&sink->part, 0);
    sink->file = fopen(sink->part.p, "wbe");
    if (sink->file == NULL) {
        int problem = errno;
        buf_close(&sink->path);
        buf_close(&sink->part);
        free(sink);
        errno = problem;
        return NULL;
    }
    if (ends_with(path, ".zst")) {
        sink->zstd = ZSTD_createCStream();
        if (sink->zstd == NULL)
            check_no_memory(0);
        ZSTD_CCtx_setParameter(sink->zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL);
        ZSTD_CCtx_setParameter(sink->zstd, ZSTD_c_checksumFlag, 1);
        buf_reserve(&sink->packed, ZSTD_CStreamOutSize());
    }
    return sink;
}

static bool pack(struct sink *sink, struct span bytes, ZSTD_EndDirective mode)
{
    ZSTD_inBuffer in = {bytes.p, bytes.n, 0};
    size_t rest;
    do {
        ZSTD_outBuffer out = {sink->packed.p, ZSTD_CStreamOutSize(), 0};
        rest = ZSTD_compressStream2(sink->zstd, &out, &in, mode);
        if (ZSTD_isError(rest)) { /* it allocates when it begins; no other error is possible */
            errno = ENOMEM;
            return false;
        }
        if (fwrite(sink->packed.p, 1, out.pos, sink->file) != out.pos)
            return false;
    } while (mode == ZSTD_e_end ? rest > 0 : in.pos < in.size);
    return true;
}

bool sink_write(struct sink *sink, struct span bytes)
{
    sink->size += bytes.n;
    if (sink->zstd != NULL)
        return pack(sink, bytes, ZSTD_e_continue);
    return fwrite(bytes.p, 1, bytes.n, sink->file) == bytes.n;
}

uint64_t sink_size(const struct sink *sink)
{
    return sink->size;
}

bool sink_close(struct sink *sink, bool whole)
{
    bool fine = sink->zstd == NULL || !whole || pack(sink, (struct span){"", 0}, ZSTD_e_end);
    fine = fflush(sink->file) == 0 && fine;
    if (sink->path.n > 0) {
        fine = fsync(fileno(sink->file)) == 0 && fine;
        fine = fclose(sink->file) == 0 && fine;
        fine = fine && (!whole || rename(sink->part.p, sink->path.p) == 0);
        int problem = errno;
        if (!fine || !whole)
            unlink(sink->part.p);
        errno = problem;
    }
    ZSTD_freeCStream(sink->zstd);
    buf_close(&sink->packed);
    buf_close(&sink->path);
    buf_close(&sink->part);
    free(sink);
    return fine;
}
