/* package_client: what a user of the installed library writes; names of its own that the library
 * also has inside must not meet. Opens a group, says something, reads it back; prints that. */
#include <loquat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int json_get(int n);
int json_get(int n)
{
    return n + 1;
}

static bool print_record(const struct loquat_record *record, void *arg)
{
    int *seen = arg;
    if (!record->hole && record->kind.n == 4 && memcmp(record->kind.p, "text", 4) == 0) {
        printf("%.*s %.*s\n", (int)record->from.n, record->from.p, (int)record->body.n,
               record->body.p);
        *seen = json_get(*seen);
    }
    return true;
}

int main(void)
{
    struct loquat_options options = {.url = getenv("LOQUAT_URL"), .token = getenv("LOQUAT_TOKEN")};
    struct loquat_answer answer;
    char why[256] = "", conv[128];
    int seen = 0;
    struct loquat *chat = loquat_new(&options, why, sizeof why);
    if (chat == NULL) {
        fprintf(stderr, "loquat_new: %s\n", why);
        return 1;
    }
    const char *const members[] = {"bob"};
    int err = loquat_wait_open_group(chat, "installed", members, 1, "package-1", &answer);
    if (err == 0 && sscanf(answer.json.p, "{\"c\":\"%127[^\"]\"", conv) != 1)
        err = LOQUAT_INTERNAL;
    if (err == 0)
        err = loquat_wait_send(chat, &(struct loquat_message){.c = conv, .text = "hello"}, &answer);
    if (err != 0)
        fprintf(stderr, "%s: %s %.*s\n", loquat_err_name(err), answer.message, (int)answer.json.n,
                answer.json.p);
    loquat_free(chat);
    if (err == 0)
        err = loquat_read(&options, &(struct loquat_range){.c = conv}, print_record, &seen, why,
                          sizeof why);
    return err == 0 && seen == 1 ? 0 : 1;
}
