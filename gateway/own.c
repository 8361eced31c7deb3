/* gateway/own.c: operations about the user himself: whom he has blocked, who sees whether he is
 * there. They live in the user's partition. */
#include "gateway/proto.h"
#include "gateway/say.h"
#include "store/base/err.h"

static int ask_settings(struct request *request, upstream_done done)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_SETTINGS;
    read.user = (char *)(uintptr_t)request->who->user;
    read.partition = request->call->partition;
    return call_read(request->call, &read, done) ? 0 : ERR_BUSY;
}

/* ---- blocks ---- */

int op_block(struct request *request)
{
    Loquat__Command command = write_command(request, LOQUAT__OP__OP_BLOCK);
    struct span user = {0};
    bool on = true;
    int err = field_user(request, "user", true, &user);
    if (err == 0)
        err = field_switch(request, "on", &on);
    if (err != 0)
        return err;
    command.who = field_copy(request, user);
    command.on = on;
    call_user(request->call);
    call_write(request->call, &command, write_done);
    return 0;
}

static void on_blocks(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    if (reply->err != 0) {
        call_fail_reply(call, reply);
        return;
    }
    struct buf *text = call_begin(call);
    if (text != NULL) {
        const Loquat__UserSettings *settings = reply->settings;
        buf_add_str(text, "{\"users\":[");
        for (size_t i = 0; settings != NULL && i < settings->n_blocks; i++) {
            buf_add_str(text, i > 0 ? ",{\"user\":" : "{\"user\":");
            json_put_string(text, span_str(settings->blocks[i]->user));
            buf_add_str(text, ",\"ts\":");
            json_put_u64(text, settings->blocks[i]->ts);
            buf_add_byte(text, '}');
        }
        buf_add_str(text, "]}");
    }
    call_ok(call);
}

int op_blocks(struct request *request)
{
    call_user(request->call);
    return ask_settings(request, on_blocks);
}

/* ---- privacy ---- */

static void say_privacy(struct call *call, bool hidden)
{
    struct buf *text = call_begin(call);
    if (text != NULL)
        buf_add_str(text, hidden ? "{\"presence\":\"hidden\"}" : "{\"presence\":\"shared\"}");
    call_ok(call);
}

static void on_settings(void *owner, const Loquat__Reply *reply)
{
    if (reply->err != 0)
        call_fail_reply(owner, reply);
    else
        say_privacy(owner, reply->settings != NULL && reply->settings->presence_hidden);
}

static void on_hidden(void *owner, const Loquat__Reply *reply)
{
    if (reply->err != 0)
        call_fail_reply(owner, reply);
    else
        say_privacy(owner, true);
}

static void on_shared(void *owner, const Loquat__Reply *reply)
{
    if (reply->err != 0)
        call_fail_reply(owner, reply);
    else
        say_privacy(owner, false);
}

int op_privacy(struct request *request)
{
    const struct json_val *presence = json_get(request->obj, "presence");
    call_user(request->call);
    if (presence == NULL || presence->type == JSON_NULL)
        return ask_settings(request, on_settings);
    Loquat__Command command = write_command(request, LOQUAT__OP__OP_PRIVACY);
    command.hidden = presence->type == JSON_STRING && span_is(presence->str, "hidden");
    if (!command.hidden && (presence->type != JSON_STRING || !span_is(presence->str, "shared")))
        return field_error(request, ERR_BAD_REQUEST, "presence", "is shared or hidden");
    call_write(request->call, &command, command.hidden ? on_hidden : on_shared);
    return 0;
}
