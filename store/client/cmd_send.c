#include <stdio.h>
#include <string.h>

#include "store/base/buf.h"
#include "store/base/json.h"
#include "store/client/cmd.h"

enum { TEXT_MAX = 64 << 10 };

/* Standard input without its last newline. */
static bool read_input(struct buf *text)
{
    char piece[4096];
    size_t n;
    while ((n = fread(piece, 1, sizeof piece, stdin)) > 0 && text->n <= TEXT_MAX)
        buf_add(text, piece, n);
    if (text->n > 0 && text->p[text->n - 1] == '\n')
        text->n--;
    buf_add_byte(text, 0);
    return !ferror(stdin) && text->n <= TEXT_MAX;
}

/* Several words become one text. */
static void join_words(struct buf *text, int count, char **words)
{
    for (int i = 0; i < count; i++) {
        if (i > 0)
            buf_add_byte(text, ' ');
        buf_add_str(text, words[i]);
    }
    buf_add_byte(text, 0);
}

static int print_answer(struct cmd *cmd, struct loquat *chat, int err,
                        const struct loquat_answer *answer)
{
    int status;
    if (err != 0) {
        status = cmd_fail_answer(cmd, answer);
    } else {
        if (cmd->json)
            printf("%.*s\n", (int)answer->json.n, answer->json.p);
        else
            printf("%llu%s\n", (unsigned long long)answer->s,
                   answer->dup ? " (was there already)" : "");
        status = cmd_finish(cmd);
    }
    loquat_free(chat);
    return status;
}

int cmd_send(int argc, char **argv)
{
    struct cmd cmd = {.name = "loquat-log send"};
    struct loquat_message message = {0};
    char *kind = "text", *body = NULL, *cid = NULL;
    const struct config_option options[] = {
        {.name = "reply",
         .type = CONFIG_UINT,
         .arg = "SEQ",
         .help = "Sequence of the message that this one answers",
         .value = &message.reply},
        {.name = "thread",
         .type = CONFIG_UINT,
         .arg = "SEQ",
         .help = "Sequence of the thread's first message",
         .value = &message.thread},
        {.name = "cid",
         .type = CONFIG_STRING,
         .arg = "ID",
         .help = "The request's own id: the same again is written once",
         .value = &cid},
        {.name = "kind",
         .type = CONFIG_STRING,
         .arg = "KIND",
         .help = "text, image, file or x-NAME",
         .value = &kind},
        {.name = "body",
         .type = CONFIG_STRING,
         .arg = "JSON",
         .help = "The whole body instead of a text",
         .value = &body},
        {0},
    };
    int first = cmd_load(&cmd, argc, argv, "CONVERSATION [TEXT…]",
                         "Send a message and print its sequence. Without TEXT (or with -) the "
                         "message is read from standard input.",
                         true, options);
    struct loquat_options session;
    struct buf text = {0};
    char why[CMD_WHY_SIZE];
    if (first >= argc || (body != NULL && first + 1 < argc))
        return cmd_usage(&cmd, "takes a conversation and a text, or --body instead of the text");
    message.c = argv[first++];
    message.kind = kind;
    message.cid = cid;
    message.body = body;
    bool input = first == argc || (first + 1 == argc && strcmp(argv[first], "-") == 0);
    if (body == NULL && input && !read_input(&text))
        return cmd_fail(&cmd, "standard input cannot be read or is longer than 64 KiB", NULL);
    if (body == NULL && !input)
        join_words(&text, argc - first, argv + first);
    message.text = text.p;
    struct loquat *chat = NULL;
    int status = CMD_FAILED;
    if (text.n > 1 && !utf8_valid(span_of(text.p, text.n - 1)))
        status = cmd_fail(&cmd, "the text is not UTF-8", NULL);
    else if (cmd_connect(&cmd, &session) && (chat = loquat_new(&session, why, sizeof why)) == NULL)
        status = cmd_fail(&cmd, why, NULL);
    if (chat != NULL) {
        struct loquat_answer answer;
        int err = loquat_wait_send(chat, &message, &answer);
        status = print_answer(&cmd, chat, err, &answer);
    }
    buf_close(&text);
    return status;
}

int cmd_open(int argc, char **argv)
{
    struct cmd cmd = {.name = "loquat-log open"};
    char *with = NULL, *name = NULL, *cid = NULL;
    const struct config_option options[] = {
        {.name = "with",
         .type = CONFIG_STRING,
         .arg = "USER",
         .help = "A direct conversation with USER",
         .value = &with},
        {.name = "name",
         .type = CONFIG_STRING,
         .arg = "NAME",
         .help = "A group of this name; its members are the arguments",
         .value = &name},
        {.name = "cid",
         .type = CONFIG_STRING,
         .arg = "ID",
         .help = "The request's own id: the same again finds the same group",
         .value = &cid},
        {0},
    };
    int first = cmd_load(&cmd, argc, argv, "--with USER\n--name NAME [USER…]",
                         "Open a conversation and print its id.", true, options);
    if ((with != NULL) == (name != NULL) || (with != NULL && first < argc))
        return cmd_usage(&cmd, "takes --with USER, or --name NAME and members");
    struct loquat_options session;
    char why[CMD_WHY_SIZE];
    if (!cmd_connect(&cmd, &session))
        return CMD_FAILED;
    struct loquat *chat = loquat_new(&session, why, sizeof why);
    if (chat == NULL)
        return cmd_fail(&cmd, why, NULL);
    struct loquat_answer answer;
    int err = with != NULL ? loquat_wait_open_direct(chat, with, &answer)
                           : loquat_wait_open_group(chat, name, (const char *const *)(argv + first),
                                                    (size_t)(argc - first), cid, &answer);
    if (err != 0 || cmd.json)
        return print_answer(&cmd, chat, err, &answer);
    struct json *json = json_new(answer.json.n + 1);
    struct json_obj conv;
    const struct json_val *c = NULL;
    if (json_parse(json, answer.json.p, answer.json.n, &conv) == 0)
        c = json_get(&conv, "c");
    int status = CMD_FAILED;
    if (c != NULL && c->type == JSON_STRING) {
        printf("%.*s\n", (int)c->str.n, c->str.p);
        status = cmd_finish(&cmd);
    } else {
        cmd_fail(&cmd, "the server did not say which conversation it is", NULL);
    }
    json_free(json);
    loquat_free(chat);
    return status;
}
