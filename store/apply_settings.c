/* store/apply_settings.c: what a user has set of himself, in the user's partition: whom he has
 * blocked, who sees whether he is there. A block takes effect in the partition of the direct
 * conversation of the two, whether that has been opened or not. */
#include "store/base/err.h"
#include "store/base/json.h"
#include "store/state.h"

static struct key settings_key(const struct apply *apply, struct span user)
{
    return key_user_settings(apply->partition, user_log_id(user));
}

int apply_settings(struct apply *apply, struct span user, struct arena *arena,
                   Loquat__UserSettings **settings)
{
    int err = state_get_or_empty(apply, KV_USER, settings_key(apply, user));
    if (err != 0)
        return err;
    *settings = loquat__user_settings__unpack(&arena->allocator, apply->value.n,
                                              (const uint8_t *)apply->value.p);
    return *settings != NULL ? 0 : ERR_CORRUPT;
}

static void save(struct apply *apply, struct span user, const Loquat__UserSettings *settings)
{
    state_put_message(apply, KV_USER, settings_key(apply, user), &settings->base);
}

/* A record in the user's own log. */
static int tell(struct apply *apply, char *user, uint32_t kind, struct span body,
                struct apply_result *result, uint64_t *seq)
{
    struct conv *log = NULL;
    int err = state_user_log(apply, span_str(user), &log);
    if (err != 0)
        return err;
    Loquat__Record record = LOQUAT__RECORD__INIT;
    record.kind = kind;
    record.from = user;
    record.body = (ProtobufCBinaryData){body.n, (uint8_t *)(uintptr_t)body.p};
    *seq = state_append(apply, log, &record, result);
    return 0;
}

int apply_op_user_note(struct apply *apply, const Loquat__Command *command)
{
    uint64_t seq;
    return tell(apply, command->user, command->kind,
                span_of((const char *)command->body.data, command->body.len), NULL, &seq);
}

/* ---- block ---- */

static size_t block_at(const Loquat__UserSettings *settings, const char *user)
{
    size_t i = 0;
    while (i < settings->n_blocks && strcmp(settings->blocks[i]->user, user) != 0)
        i++;
    return i;
}

static void set_block(struct apply *apply, Loquat__UserSettings *settings, size_t at, char *user)
{
    size_t n = settings->n_blocks;
    if (at < n) {
        memmove(settings->blocks + at, settings->blocks + at + 1, (n - at - 1) * sizeof(void *));
        settings->n_blocks--;
        return;
    }
    Loquat__Block **grown = arena_alloc(&apply->arena, (n + 1) * sizeof *grown);
    if (n > 0)
        memcpy(grown, settings->blocks, n * sizeof *grown);
    grown[n] = arena_alloc(&apply->arena, sizeof **grown);
    loquat__block__init(grown[n]);
    grown[n]->user = user;
    grown[n]->ts = apply->now_ms;
    settings->blocks = grown;
    settings->n_blocks++;
}

static void tell_direct(struct apply *apply, const Loquat__Command *from, uint64_t stamp)
{
    char id[MADE_ID_SIZE + 1];
    direct_id(span_str(from->user), span_str(from->who), id);
    Loquat__Command command = LOQUAT__COMMAND__INIT;
    command.op = LOQUAT__OP__OP_BLOCKING;
    command.user = from->user;
    command.conv = id;
    command.on = from->on;
    command.stamp = stamp;
    state_out(apply, partition_of(conv_id_of(span_str(id)), apply->partitions), &command);
}

int apply_op_block(struct apply *apply, const Loquat__Command *command)
{
    struct span user = span_str(command->user);
    Loquat__UserSettings *settings = NULL;
    if (command->who[0] == 0 || strcmp(command->who, command->user) == 0)
        return state_refuse(apply, ERR_BAD_REQUEST, "user must be somebody else");
    int err = apply_settings(apply, user, &apply->arena, &settings);
    if (err != 0)
        return err;
    size_t at = block_at(settings, command->who);
    if ((at < settings->n_blocks) == command->on)
        return 0; /* it is so already: seq 0 */
    if (command->on && settings->n_blocks == BLOCKS_MAX)
        return state_refuse(apply, ERR_TOO_LARGE, "you have blocked as many users as can be");
    set_block(apply, settings, at, command->who);
    save(apply, user, settings);
    struct buf body = {0};
    uint64_t seq = 0;
    buf_add_str(&body, "{\"user\":");
    json_put_string(&body, span_str(command->who));
    buf_add_str(&body, command->on ? ",\"on\":true}" : ",\"on\":false}");
    err =
        tell(apply, command->user, LOQUAT__KIND__KIND_BLOCK, buf_span(&body), apply->result, &seq);
    buf_close(&body);
    if (err == 0)
        tell_direct(apply, command, seq);
    return err;
}

static int load_blocking(struct apply *apply, struct conv_id id, const char *user,
                         Loquat__Blocking **row)
{
    int err =
        state_get_or_empty(apply, KV_CONV, key_blocking(apply->partition, id, span_str(user)));
    if (err != 0)
        return err;
    *row = loquat__blocking__unpack(&apply->arena.allocator, apply->value.n,
                                    (const uint8_t *)apply->value.p);
    return *row != NULL ? 0 : ERR_CORRUPT;
}

int apply_load_blocked(struct apply *apply, const char *user_a, const char *user_b, uint32_t *bits)
{
    Loquat__Blocking *a = NULL, *b = NULL;
    int err = load_blocking(apply, apply->conv_id, user_a, &a);
    if (err == 0)
        err = load_blocking(apply, apply->conv_id, user_b, &b);
    if (err == 0)
        *bits = (a->on ? BLOCKED_BY_A : 0) | (b->on ? BLOCKED_BY_B : 0);
    return err;
}

/* In any order and more than once it comes out the same: the latest stamp stands. */
int apply_op_blocking(struct apply *apply, const Loquat__Command *command)
{
    Loquat__Blocking *row = NULL;
    int err = load_blocking(apply, apply->conv_id, command->user, &row);
    if (err != 0 || row->stamp >= command->stamp)
        return err;
    row->on = command->on;
    row->stamp = command->stamp;
    struct key key = key_blocking(apply->partition, apply->conv_id, span_str(command->user));
    state_put_message(apply, KV_CONV, key, &row->base);
    struct conv *conv = NULL;
    err = state_conv_named(apply, apply->conv_id, span_str(command->conv), &conv);
    if (err == ERR_NOT_FOUND || err == ERR_CONFLICT)
        return 0; /* not opened yet */
    if (err != 0 || conv->header->kind != LOQUAT__CONV_KIND__CONV_DIRECT)
        return err;
    err = apply_load_blocked(apply, conv->header->user_a, conv->header->user_b,
                             &conv->header->blocked);
    if (err == 0)
        state_conv_save(apply, conv);
    return err;
}

/* ---- privacy ---- */

int apply_op_privacy(struct apply *apply, const Loquat__Command *command)
{
    struct span user = span_str(command->user);
    Loquat__UserSettings *settings = NULL;
    int err = apply_settings(apply, user, &apply->arena, &settings);
    if (err != 0 || settings->presence_hidden == command->hidden)
        return err;
    settings->presence_hidden = command->hidden;
    save(apply, user, settings);
    uint64_t seq;
    return tell(
        apply, command->user, LOQUAT__KIND__KIND_PRIVACY,
        span_str(command->hidden ? "{\"presence\":\"hidden\"}" : "{\"presence\":\"shared\"}"),
        apply->result, &seq);
}
