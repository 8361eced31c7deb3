/* replicas DIR DIR…: whether data directories of nodes that are at rest hold the same rows, in all
 * families that say what has happened. How far each has applied, headers (whose head is a lower
 * bound) and blocks of cids are written when each finds it right. Last line: `N passed, N failed`.
 * */
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "store/base/check.h"
#include "store/base/ids.h"
#include "store/base/log.h"
#include "store/key.h"
#include "store/kv.h"

struct sum {
    uint64_t rows, hash;
};

static struct sum sum_of(struct kv *kv, enum kv_cf cf, const char *dir)
{
    static const char ABOVE[] = "\xff\xff\xff\xff\xff\xff\xff\xff";
    struct sum sum = {0};
    struct kv_iter iter;
    kv_iter_open_scan(&iter, kv, NULL, cf, span_of("", 0), span_of(ABOVE, sizeof ABOVE - 1));
    for (kv_iter_first(&iter); kv_iter_valid(&iter); kv_iter_next(&iter)) {
        struct span key = kv_iter_key(&iter), value = kv_iter_value(&iter);
        if (cf == KV_APL && key.n == key_partition(0).n)
            continue; /* how far each has come */
        sum.rows++;
        sum.hash = XXH3_64bits_withSeed(key.p, key.n, sum.hash);
        sum.hash = XXH3_64bits_withSeed(value.p, value.n, sum.hash);
    }
    if (kv_iter_error(&iter) != 0)
        log_fatal("a directory can't be read", dir);
    kv_iter_close(&iter);
    return sum;
}

static bool compared(int cf)
{
    return cf != KV_CONV && cf != KV_DEDUP;
}

int main(int argc, char **argv)
{
    struct kv_options options = {.read_only = true};
    struct sum sums[KV_CF_COUNT] = {0};
    int failed = 0, passed = 0;
    log_setup("replicas", LOG_ERROR, LOG_TEXT);
    for (int i = 1; i < argc; i++) {
        char path[4096];
        struct kv *kv = NULL;
        snprintf(path, sizeof path, "%s/data", argv[i]);
        if (kv_open(path, KV_DATA, &options, &kv) != 0)
            log_fatal(path, kv_error());
        for (int cf = 0; cf < KV_CF_COUNT; cf++) {
            struct sum sum = sum_of(kv, (enum kv_cf)cf, path);
            if (i == 1)
                sums[cf] = sum;
            bool same = !compared(cf) || (sum.rows == sums[cf].rows && sum.hash == sums[cf].hash);
            passed += same && compared(cf) && i > 1;
            failed += !same;
            if (!same)
                printf("%s: %s: %llu rows, others than the %llu of %s\n", argv[i],
                       kv_cf_name((enum kv_cf)cf), (unsigned long long)sum.rows,
                       (unsigned long long)sums[cf].rows, argv[1]);
        }
        kv_close(kv);
    }
    printf("%llu records; %d passed, %d failed\n", (unsigned long long)sums[KV_LOG].rows, passed,
           failed);
    return failed > 0 || passed == 0;
}
