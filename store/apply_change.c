/* store/apply_change.c: commands that change a message: edit, delete, react, pin. Each is a record
 * of its own; what it does to its target stands in the target's fold. */
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/record.h"
#include "store/mention.h"
#include "store/thread.h"

static bool expired(const Loquat__Record *record, uint64_t now_ms)
{
    return record->expires != 0 && record->expires <= now_ms;
}

/* The message that a change is about, or the refusal. */
static int find_target(struct apply *apply, struct conv *conv, uint64_t seq,
                       Loquat__Record **record)
{
    *record = NULL;
    int err = ERR_NOT_FOUND;
    if (seq >= conv->header->floor && seq > 0 && seq <= conv->head)
        err = state_record(apply, conv, seq, &apply->arena, record);
    if (err == ERR_NOT_FOUND ||
        (err == 0 && (!kind_is_message((*record)->kind) || expired(*record, apply->now_ms)))) {
        *record = NULL;
        return state_refuse(apply, ERR_NOT_FOUND, "no such message");
    }
    return err;
}

static bool same_edit(const Loquat__Record *record, const Loquat__Command *command)
{
    return record->kind == LOQUAT__KIND__KIND_EDIT && record->target == command->target &&
           state_bytes_same(record->body, command->body);
}

/* A text has the body of one; that of an application's own kind may look like it. */
static bool body_fits(const struct apply *apply, const Loquat__Record *target,
                      const Loquat__Command *command)
{
    return command->kind == 0 || command->kind == target->kind ||
           (target->kind == LOQUAT__KIND__KIND_X && apply->entry_version >= ENTRY_VERSION_SOCIAL);
}

int apply_op_edit(struct apply *apply, const Loquat__Command *command)
{
    struct conv *conv = NULL;
    struct member *member = NULL;
    int err = apply_begin(apply, command, same_edit, &conv, &member);
    if (err != 0 || conv == NULL)
        return err;
    Loquat__Record *target = NULL;
    err = find_target(apply, conv, command->target, &target);
    if (err != 0 || target == NULL)
        return err;
    if (target->erased)
        return state_refuse(apply, ERR_NOT_FOUND, "the message was deleted");
    if (strcmp(target->from, command->user) != 0)
        return state_refuse(apply, ERR_FORBIDDEN, "only the author edits a message");
    if (!body_fits(apply, target, command))
        return state_refuse(apply, ERR_BAD_REQUEST, "the body is not one of the message's kind");
    Loquat__Fold *fold = NULL;
    err = state_fold(apply, conv, command->target, &apply->arena, &fold);
    if (err != 0)
        return err;
    Loquat__Record record = LOQUAT__RECORD__INIT;
    record.kind = LOQUAT__KIND__KIND_EDIT;
    record.from = command->user;
    record.cid = command->cid;
    record.target = command->target;
    record.body = command->body;
    record.thread = fold->edit_seq; /* the edit before this one: erasing follows the chain */
    record.expires = target->expires;
    uint64_t seq = state_append(apply, conv, &record, apply->result);
    fold->edited = apply->now_ms;
    fold->edit_seq = seq;
    fold->body = command->body;
    state_fold_save(apply, conv, command->target, fold);
    return 0;
}

static size_t pin_at(const struct conv *conv, uint64_t seq)
{
    size_t i = 0;
    while (i < conv->header->n_pins && conv->header->pins[i] != seq)
        i++;
    return i;
}

static void unpin(struct apply *apply, struct conv *conv, uint64_t seq)
{
    Loquat__ConvHeader *header = conv->header;
    size_t at = pin_at(conv, seq);
    if (at == header->n_pins)
        return;
    memmove(header->pins + at, header->pins + at + 1,
            (header->n_pins - at - 1) * sizeof *header->pins);
    header->n_pins--;
    state_conv_save(apply, conv);
}

static void erase_content(Loquat__Record *record)
{
    record->erased = true;
    record->body = (ProtobufCBinaryData){0};
    record->n_mentions = 0;
    record->mention_all = false;
    record->reply = 0;
    if (kind_is_message(record->kind))
        record->thread = 0;
}

/* Its thread no longer counts it. */
static int leave_thread(struct apply *apply, struct conv *conv, uint64_t seq, uint64_t root)
{
    Loquat__Fold *fold = NULL;
    thread_forget(apply, conv, root, seq);
    if (apply->entry_version < ENTRY_VERSION_SOCIAL || root < conv->header->floor)
        return 0;
    int err = state_fold(apply, conv, root, &apply->arena, &fold);
    if (err != 0 || fold->replies == 0)
        return err;
    fold->replies--;
    state_fold_save(apply, conv, root, fold);
    return 0;
}

/* The message, its edits and its fold lose their content; the sequences stay. */
static int erase(struct apply *apply, struct conv *conv, uint64_t seq, Loquat__Record *record)
{
    Loquat__Fold *fold = NULL;
    int err = state_fold(apply, conv, seq, &apply->arena, &fold);
    if (err != 0)
        return err;
    mention_forget(apply, conv, seq, record);
    if (record->thread != 0)
        err = leave_thread(apply, conv, seq, record->thread);
    if (err != 0)
        return err;
    erase_content(record);
    state_record_rewrite(apply, conv, seq, record);
    struct arena arena; /* of one edit: there may be thousands */
    arena_init(&arena);
    for (uint64_t at = fold->edit_seq; at != 0 && err == 0;) {
        Loquat__Record *edit = NULL;
        arena_reset(&arena);
        err = state_record(apply, conv, at, &arena, &edit);
        if (err != 0)
            break;
        uint64_t before = edit->thread;
        erase_content(edit);
        state_record_rewrite(apply, conv, at, edit);
        ASSERT(before < at);
        at = before;
    }
    if (err == ERR_NOT_FOUND) /* what is below was trimmed */
        err = 0;
    arena_close(&arena);
    fold->body = (ProtobufCBinaryData){0};
    fold->n_reactions = 0;
    fold->pinned = 0;
    fold->erased = true;
    unpin(apply, conv, seq);
    if (err == 0)
        state_fold_save(apply, conv, seq, fold);
    return err;
}

static bool same_delete(const Loquat__Record *record, const Loquat__Command *command)
{
    return record->kind == LOQUAT__KIND__KIND_DELETE && record->target == command->target;
}

int apply_op_delete(struct apply *apply, const Loquat__Command *command)
{
    struct conv *conv = NULL;
    struct member *member = NULL;
    int err = apply_begin(apply, command, same_delete, &conv, &member);
    if (err != 0 || conv == NULL)
        return err;
    Loquat__Record *target = NULL;
    err = find_target(apply, conv, command->target, &target);
    if (err != 0 || target == NULL)
        return err;
    bool may = command->admin || strcmp(target->from, command->user) == 0 ||
               (member != NULL && member->row->role >= LOQUAT__ROLE__ROLE_ADMIN);
    if (!may)
        return state_refuse(apply, ERR_FORBIDDEN,
                            "only the author, an admin or an owner deletes a message for all");
    if (target->erased)
        return 0; /* nothing left to do: seq 0 */
    Loquat__Record record = LOQUAT__RECORD__INIT;
    record.kind = LOQUAT__KIND__KIND_DELETE;
    record.from = command->user;
    record.cid = command->cid;
    record.target = command->target;
    /* for who counts replies along the log */
    if (apply->entry_version >= ENTRY_VERSION_SOCIAL)
        record.thread = target->thread;
    state_append(apply, conv, &record, apply->result);
    return erase(apply, conv, command->target, target);
}

/* ---- react ---- */

static bool same_react(const Loquat__Record *record, const Loquat__Command *command)
{
    return record->kind == LOQUAT__KIND__KIND_REACT && record->target == command->target &&
           record->on == command->on && strcmp(record->emoji, command->emoji) == 0;
}

static size_t emoji_at(const Loquat__UserReactions *row, const char *emoji)
{
    size_t i = 0;
    while (i < row->n_emojis && strcmp(row->emojis[i], emoji) != 0)
        i++;
    return i;
}

static int load_row(struct apply *apply, struct key key, Loquat__UserReactions **row)
{
    int err = state_get_or_empty(apply, KV_CONV, key);
    if (err != 0)
        return err;
    *row = loquat__user_reactions__unpack(&apply->arena.allocator, apply->value.n,
                                          (const uint8_t *)apply->value.p);
    return *row != NULL ? 0 : ERR_CORRUPT;
}

/* The user's row, with the emoji or, where it is the `at`th of it, without. */
static void save_row(struct apply *apply, struct key key, const Loquat__UserReactions *row,
                     size_t at, char *emoji)
{
    Loquat__UserReactions now = LOQUAT__USER_REACTIONS__INIT;
    now.emojis = arena_alloc(&apply->arena, (row->n_emojis + 1) * sizeof *now.emojis);
    for (size_t i = 0; i < row->n_emojis; i++)
        if (i != at)
            now.emojis[now.n_emojis++] = row->emojis[i];
    if (at == row->n_emojis)
        now.emojis[now.n_emojis++] = emoji;
    if (now.n_emojis == 0) {
        state_delete(apply, KV_CONV, key_span(&key));
        return;
    }
    state_put_message(apply, KV_CONV, key, &now.base);
}

/* One more or one less of this emoji. False: the message has as many different ones as it may. */
static bool count_reaction(struct apply *apply, Loquat__Fold *fold, char *emoji, bool on)
{
    size_t i = 0, n = fold->n_reactions;
    while (i < n && strcmp(fold->reactions[i]->emoji, emoji) != 0)
        i++;
    if (i < n && (on || fold->reactions[i]->n > 1)) {
        fold->reactions[i]->n += on ? 1 : UINT64_MAX;
        return true;
    }
    if (i < n) { /* the last one of it */
        memmove(fold->reactions + i, fold->reactions + i + 1, (n - i - 1) * sizeof(void *));
        fold->n_reactions--;
        return true;
    }
    if (!on || n == REACTIONS_MAX)
        return !on;
    Loquat__Reaction **grown = arena_alloc(&apply->arena, (n + 1) * sizeof *grown);
    if (n > 0)
        memcpy(grown, fold->reactions, n * sizeof *grown);
    grown[n] = arena_alloc(&apply->arena, sizeof **grown);
    loquat__reaction__init(grown[n]);
    grown[n]->emoji = emoji;
    grown[n]->n = 1;
    fold->reactions = grown;
    fold->n_reactions++;
    return true;
}

static int react(struct apply *apply, struct conv *conv, const Loquat__Command *command,
                 const Loquat__Record *target)
{
    struct key key =
        key_reactions(apply->partition, conv->id, command->target, span_str(command->user));
    Loquat__UserReactions *row = NULL;
    Loquat__Fold *fold = NULL;
    int err = load_row(apply, key, &row);
    if (err == 0)
        err = state_fold(apply, conv, command->target, &apply->arena, &fold);
    if (err != 0)
        return err;
    size_t at = emoji_at(row, command->emoji);
    if ((at < row->n_emojis) == command->on)
        return 0; /* it is so already: seq 0 */
    if (command->on && row->n_emojis == REACTIONS_OF_USER_MAX)
        return state_refuse(apply, ERR_TOO_LARGE, "you have as many reactions on it as can be");
    if (!count_reaction(apply, fold, command->emoji, command->on))
        return state_refuse(apply, ERR_TOO_LARGE,
                            "the message has as many different reactions as can be");
    save_row(apply, key, row, at, command->emoji);
    Loquat__Record record = LOQUAT__RECORD__INIT;
    record.kind = LOQUAT__KIND__KIND_REACT;
    record.from = command->user;
    record.cid = command->cid;
    record.target = command->target;
    record.emoji = command->emoji;
    record.on = command->on;
    record.expires = target->expires;
    state_append(apply, conv, &record, apply->result);
    state_fold_save(apply, conv, command->target, fold);
    return 0;
}

int apply_op_react(struct apply *apply, const Loquat__Command *command)
{
    struct conv *conv = NULL;
    struct member *member = NULL;
    int err = apply_begin(apply, command, same_react, &conv, &member);
    if (err != 0 || conv == NULL)
        return err;
    Loquat__Record *target = NULL;
    err = find_target(apply, conv, command->target, &target);
    if (err != 0 || target == NULL)
        return err;
    if (target->erased)
        return state_refuse(apply, ERR_NOT_FOUND, "the message was deleted");
    if (command->emoji[0] == 0 || strlen(command->emoji) > EMOJI_MAX)
        return state_refuse(apply, ERR_BAD_REQUEST, "emoji is one of 32 bytes at most");
    return react(apply, conv, command, target);
}

/* ---- pin ---- */

static bool same_pin(const Loquat__Record *record, const Loquat__Command *command)
{
    return record->kind == LOQUAT__KIND__KIND_PIN && record->target == command->target &&
           record->on == command->on;
}

static int pin(struct apply *apply, struct conv *conv, const Loquat__Command *command)
{
    Loquat__ConvHeader *header = conv->header;
    Loquat__Fold *fold = NULL;
    bool on = pin_at(conv, command->target) < header->n_pins;
    if (on == command->on)
        return 0; /* it is so already: seq 0 */
    if (command->on && header->n_pins == PINS_MAX)
        return state_refuse(apply, ERR_TOO_LARGE,
                            "as many messages are pinned here as can be: unpin one first");
    int err = state_fold(apply, conv, command->target, &apply->arena, &fold);
    if (err != 0)
        return err;
    Loquat__Record record = LOQUAT__RECORD__INIT;
    record.kind = LOQUAT__KIND__KIND_PIN;
    record.from = command->user;
    record.cid = command->cid;
    record.target = command->target;
    record.on = command->on;
    state_append(apply, conv, &record, apply->result);
    fold->pinned = command->on ? apply->now_ms : 0;
    state_fold_save(apply, conv, command->target, fold);
    if (!command->on) {
        unpin(apply, conv, command->target);
        return 0;
    }
    header->pins = xrealloc(header->pins, (header->n_pins + 1) * sizeof *header->pins);
    header->pins[header->n_pins++] = command->target;
    state_conv_save(apply, conv);
    return 0;
}

int apply_op_pin(struct apply *apply, const Loquat__Command *command)
{
    struct conv *conv = NULL;
    struct member *member = NULL;
    int err = apply_begin(apply, command, same_pin, &conv, &member);
    if (err != 0 || conv == NULL)
        return err;
    bool may = command->admin || conv->header->kind == LOQUAT__CONV_KIND__CONV_DIRECT ||
               (member != NULL && member->row->role >= LOQUAT__ROLE__ROLE_ADMIN);
    if (!may)
        return state_refuse(apply, ERR_FORBIDDEN, "only an owner or admin pins messages");
    if (!command->on) /* also one that has expired meanwhile */
        return pin(apply, conv, command);
    Loquat__Record *target = NULL;
    err = find_target(apply, conv, command->target, &target);
    if (err != 0 || target == NULL)
        return err;
    if (target->erased)
        return state_refuse(apply, ERR_NOT_FOUND, "the message was deleted");
    return pin(apply, conv, command);
}
