/* store/client/wait.c: making and ending a session, and the calls that wait for an answer. */
#include <stdio.h>
#include <stdlib.h>

#include "store/base/check.h"
#include "store/client/session.h"

static struct loquat *options_refused(char *why, size_t why_size, const char *text)
{
    if (why != NULL)
        snprintf(why, why_size, "%s", text);
    return NULL;
}

struct loquat *loquat_new(const struct loquat_options *options, char *why, size_t why_size)
{
    enum { WINDOW_DEFAULT = 256 };
    const char *problem;
    struct url url;
    if (url_parse(options->url != NULL ? options->url : "http://127.0.0.1:8080", &url, &problem))
        return options_refused(why, why_size, problem);
    if (options->token == NULL)
        return options_refused(why, why_size, "a token is needed");
    if (options->window > REQUESTS_WINDOW_MAX)
        return options_refused(why, why_size, "the window is larger than 65,536 requests");
    struct tlsc_trust *trust = url.tls ? tlsc_trust_new(options->ca, why, why_size) : NULL;
    if (url.tls && trust == NULL)
        return NULL;
    uv_loop_t *own_loop = options->loop == NULL ? xcalloc(1, sizeof *own_loop) : NULL;
    int err = own_loop != NULL ? uv_loop_init(own_loop) : 0;
    if (err != 0) {
        free(own_loop);
        tlsc_trust_free(trust);
        return options_refused(why, why_size, uv_strerror(err));
    }
    struct loquat *chat = xcalloc(1, sizeof *chat);
    chat->options = *options;
    chat->options.url = chat->options.ca = NULL;
    chat->trust = trust;
    chat->options.token = NULL;
    chat->options.device = xstrdup(options->device != NULL ? options->device : "c");
    chat->token = xstrdup(options->token);
    chat->url = url;
    chat->own_loop = own_loop != NULL;
    chat->loop = own_loop != NULL ? own_loop : options->loop;
    chat->pool = ws_pool_new(SESSION_MESSAGE_MAX, false);
    chat->json = json_new(SESSION_MESSAGE_MAX);
    requests_init(&chat->requests, options->window > 0 ? options->window : WINDOW_DEFAULT);
    live_init(chat);
    session_init(chat);
    return chat;
}

void *loquat_data(const struct loquat *chat)
{
    return chat->options.data;
}

void loquat_start(struct loquat *chat)
{
    session_note(chat, NOTE_START);
}

void loquat_stop(struct loquat *chat)
{
    if (chat->session.state < SESSION_ENDING)
        session_note(chat, NOTE_STOP);
}

int loquat_run(struct loquat *chat)
{
    ASSERT(chat->own_loop);
    while (chat->session.state != SESSION_ENDED)
        uv_run(chat->loop, UV_RUN_ONCE);
    return chat->session.err;
}

void loquat_free(struct loquat *chat)
{
    if (chat == NULL)
        return;
    if (chat->own_loop) {
        loquat_stop(chat);
        loquat_run(chat);
        uv_run(chat->loop, UV_RUN_DEFAULT);
        int err = uv_loop_close(chat->loop);
        ASSERT(err == 0);
        free(chat->loop);
    }
    ASSERT(chat->session.state == SESSION_ENDED);
    requests_close(&chat->requests);
    live_close(chat);
    ws_pool_free(chat->pool);
    json_free(chat->json);
    tlsc_trust_free(chat->trust);
    buf_close(&chat->frame);
    buf_close(&chat->scratch);
    buf_close(&chat->waiting.json);
    free((char *)chat->options.device);
    free(chat->token);
    free(chat);
}

/* ---- waiting ---- */

static void wait_on_answer(struct loquat *chat, const struct loquat_answer *answer, void *arg)
{
    struct waiting *waiting = arg;
    (void)chat;
    waiting->answer = *answer;
    snprintf(waiting->words.code, sizeof waiting->words.code, "%s", answer->code);
    snprintf(waiting->words.message, sizeof waiting->words.message, "%s", answer->message);
    waiting->json.n = 0;
    buf_add(&waiting->json, answer->json.p, answer->json.n);
    waiting->done = true;
}

/* `err`: what the call that made the request returned. */
static int wait_for(struct loquat *chat, int err, struct loquat_answer *answer)
{
    struct waiting *waiting = &chat->waiting;
    ASSERT(chat->own_loop);
    if (err != 0) {
        const char *why = err == LOQUAT_CLOSED      ? chat->session.why
                          : err == LOQUAT_TOO_LARGE ? "the request is larger than a frame"
                                                    : "the window is full";
        answer_make(err, why, &waiting->words, &waiting->answer);
        waiting->json.n = 0;
        waiting->done = true;
    }
    if (chat->session.state == SESSION_IDLE)
        loquat_start(chat);
    while (!waiting->done)
        uv_run(chat->loop, UV_RUN_ONCE);
    *answer = waiting->answer;
    answer->code = waiting->words.code;
    answer->message = waiting->words.message;
    answer->json = (struct loquat_text){waiting->json.p, waiting->json.n};
    return answer->err;
}

int loquat_wait_request(struct loquat *chat, const char *fields, size_t size,
                        struct loquat_answer *answer)
{
    chat->waiting.done = false;
    int err = loquat_request(chat, fields, size, wait_on_answer, &chat->waiting);
    return wait_for(chat, err, answer);
}

int loquat_wait_send(struct loquat *chat, const struct loquat_message *message,
                     struct loquat_answer *answer)
{
    chat->waiting.done = false;
    int err = loquat_send(chat, message, wait_on_answer, &chat->waiting);
    return wait_for(chat, err, answer);
}

int loquat_wait_open_direct(struct loquat *chat, const char *with, struct loquat_answer *answer)
{
    chat->waiting.done = false;
    int err = loquat_open_direct(chat, with, wait_on_answer, &chat->waiting);
    return wait_for(chat, err, answer);
}

int loquat_wait_open_group(struct loquat *chat, const char *name, const char *const *members,
                           size_t count, const char *cid, struct loquat_answer *answer)
{
    chat->waiting.done = false;
    int err = loquat_open_group(chat, name, members, count, cid, wait_on_answer, &chat->waiting);
    return wait_for(chat, err, answer);
}

int loquat_wait_range(struct loquat *chat, const struct loquat_range *range,
                      struct loquat_answer *answer)
{
    chat->waiting.done = false;
    int err = loquat_range(chat, range, wait_on_answer, &chat->waiting);
    return wait_for(chat, err, answer);
}
