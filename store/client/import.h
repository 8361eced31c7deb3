/* store/client/import.h: an archive into a server: reads ahead, keeps many conversations under way
 * at once (a line that answers another must wait for it, others need not) and the window full.
 * Memory: IMPORT_BYTES_MAX of lines read ahead, or one conversation when that is larger. */
#ifndef LOQUAT_CLIENT_IMPORT_H
#define LOQUAT_CLIENT_IMPORT_H

#include <uv.h>

#include "store/client/import_conv.h"
#include "store/client/loquat.h"
#include "store/client/progress.h"
#include "store/client/source.h"

enum {
    IMPORT_WINDOW = 4096,
    IMPORT_CONVS_MAX = 256,
    IMPORT_BYTES_MAX = 96 << 20,
    IMPORT_LOAD_LINES = 2048, /* in one turn of the loop */
    IMPORT_BURST = 128,       /* lines of one conversation in one turn */
    IMPORT_COMPLAINTS_MAX = 10,
};

struct import_totals {
    uint64_t lines, fresh, dup, convs;
    uint64_t failed;   /* conversations given up */
    uint64_t disorder; /* lines that are not in order in the log */
    uint64_t members_failed;
};

struct import {
    struct loquat *chat;
    struct source *source;
    struct json *json;
    bool keep;
    const char *path;
    struct import_conv *first, *last; /* under way */
    struct import_conv *loading;
    struct map begun; /* conversations, by the hash of their names */
    size_t convs_open, bytes;
    bool ended, ready, stopped;
    uint64_t line_number;
    char self[65];
    struct buf request;
    struct import_totals totals;
    struct progress progress;
    uv_check_t check;
    uv_idle_t idle;
    uv_timer_t timer;
    uint64_t complaints;
    char why[512];
};

/* 0: everything that could be was imported (see totals.failed); otherwise import->why. `options`:
 * url, ca and token count. The caller opened the source. */
int import_run(struct import *import, const struct loquat_options *options);

#endif
