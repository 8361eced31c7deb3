#include "store/client/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "store/base/buf.h"
#include "store/base/clock.h"
#include "store/client/print.h"

enum { BAR_WIDTH = 24 };

void progress_begin(struct progress *progress)
{
    uint64_t now = clock_mono_us();
    *progress =
        (struct progress){.terminal = isatty(STDERR_FILENO), .begun_us = now, .shown_us = now};
}

double progress_seconds(const struct progress *progress)
{
    return (double)(clock_mono_us() - progress->begun_us) / 1e6;
}

static void add_bar(struct buf *out, double share)
{
    int full = (int)(share * BAR_WIDTH);
    buf_add_byte(out, '[');
    for (int i = 0; i < BAR_WIDTH; i++)
        buf_add_byte(out, i < full ? '#' : '.');
    buf_add_str(out, "] ");
}

static void add_left(struct buf *out, double elapsed, double share)
{
    double left = elapsed / share * (1 - share);
    if (left < 360000)
        buf_addf(out, ", %d:%02d left", (int)left / 60, (int)left % 60);
}

void progress_show(struct progress *progress, uint64_t count, const char *things, double share)
{
    uint64_t now = clock_mono_us(), since_us = now - progress->shown_us;
    uint64_t due_us = progress->terminal ? PROGRESS_TICK_MS * 1000 : PROGRESS_LINE_S * 1000000;
    if (since_us < due_us)
        return;
    double rate = (double)(count - progress->shown_count) * 1e6 / (double)since_us;
    progress->rate = progress->rate > 0 ? progress->rate * 0.7 + rate * 0.3 : rate;
    progress->shown_us = now;
    progress->shown_count = count;
    struct buf out = {0};
    if (progress->terminal)
        buf_add_byte(&out, '\r');
    if (share >= 0 && progress->terminal)
        add_bar(&out, share);
    if (share >= 0)
        buf_addf(&out, "%3.0f%%  ", share * 100);
    print_count(&out, count);
    buf_addf(&out, " %s, ", things);
    print_count(&out, (uint64_t)progress->rate);
    buf_add_str(&out, "/s");
    if (share > 0)
        add_left(&out, progress_seconds(progress), share);
    buf_add_str(&out, progress->terminal ? "\x1b[K" : "\n");
    fwrite(out.p, 1, out.n, stderr);
    buf_close(&out);
}

void progress_end(struct progress *progress)
{
    if (progress->terminal)
        fputs("\r\x1b[K", stderr);
}
