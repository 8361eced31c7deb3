/* store/apply_user.c: commands in the partition of a user: the list of conversations, what the user
 * has set of each, and the user's own log, by which all devices learn of it. */
#include "store/base/err.h"
#include "store/base/json.h"
#include "store/state.h"

static int load_row(struct apply *apply, struct key key, Loquat__UserConv **row)
{
    int err = state_get(apply, KV_USER, key_span(&key), &apply->value);
    if (err != 0)
        return err;
    *row = loquat__user_conv__unpack(&apply->arena.allocator, apply->value.n,
                                     (const uint8_t *)apply->value.p);
    return *row != NULL ? 0 : ERR_CORRUPT;
}

static void save_row(struct apply *apply, struct key key, const Loquat__UserConv *row)
{
    state_put_message(apply, KV_USER, key, &row->base);
}

/* ---- that a membership came or went ---- */

/* In the partition of a user: the list row, and a record in the user's own log. Later stamps win,
 * so delivery in any order and more than once comes out the same. */
static int user_effect(struct apply *apply, const Loquat__UserEffect *effect)
{
    struct span user = span_str(effect->user);
    struct conv *log = NULL;
    int err = state_user_log(apply, user, &log);
    if (err != 0)
        return err;
    struct key key = key_user_conv(apply->partition, log->id, conv_id_of(span_str(effect->conv)));
    Loquat__UserConv *old = NULL;
    err = load_row(apply, key, &old);
    if (err != 0 && err != ERR_NOT_FOUND)
        return err;
    if (err == 0 && old->stamp >= effect->stamp)
        return 0;
    Loquat__UserConv row = LOQUAT__USER_CONV__INIT;
    row.conv = effect->conv;
    row.since = effect->ts;
    row.stamp = effect->stamp;
    row.gone = effect->gone;
    save_row(apply, key, &row);

    struct buf body = {0};
    buf_add_str(&body, "{\"c\":");
    json_put_string(&body, span_str(effect->conv));
    buf_add_str(&body, "}");
    Loquat__Record record = LOQUAT__RECORD__INIT;
    record.kind = effect->gone ? LOQUAT__KIND__KIND_LEFT : LOQUAT__KIND__KIND_JOINED;
    record.from = effect->user;
    record.body = (ProtobufCBinaryData){body.n, (uint8_t *)body.p};
    state_append(apply, log, &record, NULL);
    buf_close(&body);
    return 0;
}

int apply_op_user_effect(struct apply *apply, const Loquat__Command *command)
{
    int err = 0;
    for (size_t i = 0; i < command->n_effects && err == 0; i++)
        if (strlen(command->effects[i]->user) <= USER_MAX)
            err = user_effect(apply, command->effects[i]);
    return err;
}

int apply_op_out_done(struct apply *apply, const Loquat__Command *command)
{
    for (size_t i = 0; i < command->n_done; i++) {
        struct key key = key_number(apply->partition, command->done[i]);
        kv_delete(apply->batch, KV_OUT, key_span(&key));
    }
    return 0;
}

/* ---- preferences ---- */

/* The fields that are set, as a Conv has them. */
static void prefs_body(struct buf *body, const Loquat__Command *command)
{
    buf_add_str(body, "{\"c\":");
    json_put_string(body, span_str(command->conv));
    if (command->fields & LOQUAT__PREF_FIELD__PREF_MUTED) {
        buf_add_str(body, ",\"muted_until\":");
        if (command->muted_until != 0)
            json_put_u64(body, command->muted_until);
        else
            buf_add_str(body, "null");
    }
    if (command->fields & LOQUAT__PREF_FIELD__PREF_PINNED)
        buf_add_str(body, command->pinned ? ",\"pinned\":true" : ",\"pinned\":false");
    if (command->fields & LOQUAT__PREF_FIELD__PREF_HIDDEN)
        buf_add_str(body, command->hidden ? ",\"hidden\":true" : ",\"hidden\":false");
    if (command->fields & LOQUAT__PREF_FIELD__PREF_DRAFT) {
        buf_add_str(body, ",\"draft\":");
        if (command->draft[0] != 0)
            json_put_string(body, span_str(command->draft));
        else
            buf_add_str(body, "null");
    }
    buf_add_byte(body, '}');
}

/* True when that changes something. */
static bool set_prefs(struct apply *apply, Loquat__UserConv *row, const Loquat__Command *command)
{
    uint32_t fields = command->fields;
    bool changed = false;
    if ((fields & LOQUAT__PREF_FIELD__PREF_MUTED) && row->muted_until != command->muted_until) {
        row->muted_until = command->muted_until;
        changed = true;
    }
    if ((fields & LOQUAT__PREF_FIELD__PREF_PINNED) && (row->pinned != 0) != command->pinned) {
        row->pinned = command->pinned ? apply->now_ms : 0;
        changed = true;
    }
    if ((fields & LOQUAT__PREF_FIELD__PREF_HIDDEN) && (command->hidden || row->hidden != 0)) {
        row->hidden = command->hidden ? apply->now_ms : 0; /* again: also what came since */
        changed = true;
    }
    if ((fields & LOQUAT__PREF_FIELD__PREF_DRAFT) && strcmp(row->draft, command->draft) != 0) {
        row->draft = command->draft;
        changed = true;
    }
    return changed;
}

int apply_op_prefs(struct apply *apply, const Loquat__Command *command)
{
    enum {
        FIELDS = LOQUAT__PREF_FIELD__PREF_MUTED | LOQUAT__PREF_FIELD__PREF_PINNED |
                 LOQUAT__PREF_FIELD__PREF_HIDDEN | LOQUAT__PREF_FIELD__PREF_DRAFT
    };
    struct conv *log = NULL;
    Loquat__UserConv *row = NULL;
    if (command->fields == 0 || (command->fields & ~(uint32_t)FIELDS) != 0)
        return state_refuse(apply, ERR_BAD_REQUEST, "no preference is named");
    int err = state_user_log(apply, span_str(command->user), &log);
    if (err != 0)
        return err;
    struct key key = key_user_conv(apply->partition, log->id, apply->conv_id);
    err = load_row(apply, key, &row);
    if (err == ERR_NOT_FOUND || (err == 0 && (row->gone || strcmp(row->conv, command->conv) != 0)))
        return state_refuse(apply, ERR_NOT_FOUND, "no such conversation");
    if (err != 0)
        return err;
    if (!set_prefs(apply, row, command))
        return 0; /* it is so already: seq 0 */
    save_row(apply, key, row);
    struct buf body = {0};
    prefs_body(&body, command);
    Loquat__Record record = LOQUAT__RECORD__INIT;
    record.kind = LOQUAT__KIND__KIND_PREFS;
    record.from = command->user;
    record.body = (ProtobufCBinaryData){body.n, (uint8_t *)body.p};
    state_append(apply, log, &record, apply->result);
    buf_close(&body);
    return 0;
}
