#include "gateway/typing.h"

#include <stdio.h>
#include <xxhash.h>

#include "gateway/follow.h"
#include "gateway/proto.h"
#include "gateway/say.h"
#include "store/base/err.h"

void typing_take(struct gate *gate, const Loquat__Typing *typing)
{
    struct topic *topic = fanout_find(&gate->fanout, span_str(typing->conv));
    if (topic == NULL)
        return;
    struct buf *text = &gate->answer;
    text->n = 0;
    say_typing(text, typing->conv, typing->user, TYPING_TTL_MS);
    fanout_tell_passing(topic, buf_span(text), typing->user);
}

/* Two that share a slot hold each other up: fewer are passed on, never more. */
static bool is_due(struct gate *gate, struct span user, struct span conv)
{
    uint64_t hash = XXH3_64bits_withSeed(user.p, user.n, XXH3_64bits(conv.p, conv.n));
    uint64_t *last_ms = &gate->typing_ms[hash % TYPING_SLOTS];
    if (*last_ms != 0 && gate->now_ms < *last_ms + TYPING_EVERY_MS)
        return false;
    *last_ms = gate->now_ms;
    return true;
}

/* Who follows the conversation is a member: that ends with the membership. */
int op_typing(struct request *request)
{
    struct conn *conn = request->conn;
    struct gate *gate = conn->gate;
    if (follow_find(conn->session, fanout_find(&gate->fanout, request->c)) == NULL) {
        snprintf(request->why, sizeof request->why,
                 "this connection does not follow that conversation");
        return ERR_NOT_FOUND;
    }
    Loquat__Typing typing = LOQUAT__TYPING__INIT;
    typing.conv = request->call->conv;
    typing.user = conn->who->user;
    typing.partition = request->call->partition;
    if (is_due(gate, span_str(typing.user), request->c))
        cluster_typing(&gate->cluster, &typing);
    struct buf *text = call_begin(request->call);
    if (text != NULL)
        buf_add_str(text, "{}");
    call_ok(request->call);
    return 0;
}
