#include "store/client/reader.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/base/check.h"

int reader_open(struct loquat_reader *reader, const struct loquat_options *options,
                loquat_end_fn on_end, void *arg, char *why, size_t why_size)
{
    char unheard[1];
    if (why == NULL) {
        why = unheard;
        why_size = sizeof unheard;
    }
    if (options->loop == NULL) {
        snprintf(why, why_size, "a loop is needed");
        return LOQUAT_BAD_REQUEST;
    }
    int err = ask_place_open(&reader->place, options, why, why_size);
    if (err != 0)
        return err;
    reader->loop = options->loop;
    reader->token = options->token != NULL ? xstrdup(options->token) : NULL;
    reader->place.token = reader->token;
    reader->on_end = on_end;
    reader->end_arg = arg;
    return 0;
}

void reader_close(struct loquat_reader *reader)
{
    ask_place_close(&reader->place);
    free(reader->token);
}

void loquat_reader_stop(struct loquat_reader *reader)
{
    reader->stop(reader);
}

/* ---- blocking ---- */

int reader_wait_open(struct reader_wait *wait, const struct loquat_options *options, char *why,
                     size_t why_size)
{
    *wait = (struct reader_wait){.options = *options, .why = why, .why_size = why_size};
    int err = uv_loop_init(&wait->loop);
    wait->options.loop = &wait->loop;
    if (err == 0)
        return 0;
    snprintf(why, why_size, "%s", uv_strerror(err));
    return LOQUAT_UNAVAILABLE;
}

static void reader_on_waited(int err, const char *why, void *arg)
{
    struct reader_wait *wait = arg;
    wait->err = err;
    snprintf(wait->why, wait->why_size, "%s", why);
}

int reader_wait_end(struct reader_wait *wait, struct loquat_reader *reader)
{
    wait->err = LOQUAT_BAD_REQUEST;
    if (reader != NULL) {
        reader->on_end = reader_on_waited;
        reader->end_arg = wait;
        uv_run(&wait->loop, UV_RUN_DEFAULT);
    }
    int err = uv_loop_close(&wait->loop);
    ASSERT(err == 0);
    return wait->err;
}
