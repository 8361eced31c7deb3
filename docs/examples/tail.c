/* tail.c: prints a conversation from its beginning on, and what comes, as it comes. Blocking.
 *
 *   cc -o tail tail.c $(pkg-config --cflags --libs loquat)
 *   LOQUAT_URL=… LOQUAT_TOKEN=… ./tail CONVERSATION [RECORDS]      so many, then it ends */
#include <loquat.h>
#include <stdio.h>
#include <stdlib.h>

static bool on_record(const struct loquat_record *record, void *arg)
{
    unsigned long *left = arg;
    if (record->hole)
        printf("%llu (%.*s)\n", (unsigned long long)record->s, (int)record->why.n, record->why.p);
    else
        printf("%llu %.*s %.*s %.*s\n", (unsigned long long)record->s, (int)record->from.n,
               record->from.p, (int)record->kind.n, record->kind.p, (int)record->body.n,
               record->body.p);
    return fflush(stdout) == 0 && (*left == 0 || --*left > 0);
}

int main(int argc, char **argv)
{
    struct loquat_options options = {.url = getenv("LOQUAT_URL"), .token = getenv("LOQUAT_TOKEN")};
    unsigned long left = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    char why[256] = "";
    if (argc < 2) {
        fprintf(stderr, "usage: tail CONVERSATION [RECORDS]\n");
        return 2;
    }
    if (loquat_tail(&options, argv[1], 1, on_record, &left, why, sizeof why) == 0)
        return 0;
    fprintf(stderr, "tail: %s\n", why);
    return 1;
}
