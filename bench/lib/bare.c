#include "bench/lib/bare.h"

#include <stdio.h>

#include "store/key.h"

enum { ROW_EXTRA = 45 }; /* of a record beside its text: version, checksum, time, author, cid, … */

void bare_open(struct bare *bare)
{
    *bare = (struct bare){0};
    bench_dir(bare->root);
    if (kv_open(bare->root, KV_RAFT, &(struct kv_options){.create = true}, &bare->kv) != 0)
        bench_fail("%s", kv_error());
    kv_batch_init(&bare->batch, bare->kv);
}

void bare_close(struct bare *bare)
{
    bare_flush(bare);
    kv_batch_close(&bare->batch);
    kv_close(bare->kv);
    bench_dir_drop(bare->root);
}

void bare_flush(struct bare *bare)
{
    if (bare->rows > 0 && kv_write(&bare->batch) != 0)
        bench_fail("%s", kv_error());
    bare->all += bare->rows;
    bare->rows = 0;
}

void bare_put(struct bare *bare, struct span key, struct span value)
{
    kv_put(&bare->batch, KV_LOG, key, value);
    if (++bare->rows == BARE_BATCH)
        bare_flush(bare);
}

double bare_run(struct bare *bare, size_t convs, double secs)
{
    char value[BARE_TEXT + ROW_EXTRA] = {0};
    uint64_t before = bare->all;
    double begin = now_s(), s = 0;
    do {
        for (size_t i = 0; i < BARE_BATCH; i++) {
            uint64_t number = bare->all + i, conv = number % convs;
            bench_text(number, value + ROW_EXTRA);
            struct conv_id id = conv_id_of(span_of((const char *)&conv, sizeof conv));
            struct key key = key_seq((uint32_t)(conv % 16), id, number / convs);
            bare_put(bare, key_span(&key), span_of(value, sizeof value));
        }
        s = now_s() - begin;
    } while (s < secs);
    return (double)(bare->all - before) / s;
}
