/* store/apply_message.c: commands that write, change and mark messages. */
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/record.h"
#include "store/state.h"

#define TS_MAX 253402300799999ull        /* the end of the year 9999 */
#define TTL_MAX_S (100ull * 366 * 86400) /* more is as good as for ever */

static bool expired(const Loquat__Record *record, uint64_t now_ms)
{
    return record->expires != 0 && record->expires <= now_ms;
}

static bool bytes_same(ProtobufCBinaryData a, ProtobufCBinaryData b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* ---- send ---- */

static bool same_send(const Loquat__Record *record, const Loquat__Command *command)
{
    if (record->kind != command->kind || strcmp(record->xkind, command->xkind) != 0 ||
        !bytes_same(record->body, command->body) || record->reply != command->reply ||
        record->thread != command->thread || record->mention_all != command->mention_all ||
        record->n_mentions != command->n_mentions)
        return false;
    for (size_t i = 0; i < record->n_mentions; i++)
        if (strcmp(record->mentions[i], command->mentions[i]) != 0)
            return false;
    return true;
}

/* A thread hangs on a message; its root counts what hangs on it. */
static int count_reply(struct apply *apply, struct conv *conv, uint64_t root)
{
    Loquat__Record *record = NULL;
    int err = root < conv->header->floor ? ERR_NOT_FOUND
                                         : state_record(apply, conv, root, &apply->arena, &record);
    if (err == ERR_NOT_FOUND ||
        (err == 0 && (record->erased || !kind_is_message(record->kind) || record->thread != 0)))
        return state_refuse(apply, ERR_BAD_REQUEST, "thread is not a message that can have one");
    Loquat__Fold *fold = NULL;
    if (err == 0)
        err = state_fold(apply, conv, root, &apply->arena, &fold);
    if (err == 0) {
        fold->replies++;
        state_fold_save(apply, conv, root, fold);
    }
    return err;
}

int apply_op_send(struct apply *apply, const Loquat__Command *command)
{
    struct conv *conv = NULL;
    struct member *member = NULL;
    int err = apply_find(apply, command, &conv, &member);
    if (err != 0 || conv == NULL)
        return err;
    bool found = false;
    err = apply_first_answer(apply, conv, command, same_send, &found);
    if (err != 0 || found)
        return err;
    if (!kind_is_message(command->kind))
        return state_refuse(apply, ERR_BAD_REQUEST, "not a kind that can be sent");
    if (command->ts > TS_MAX)
        return state_refuse(apply, ERR_BAD_REQUEST, "ts is no time in milliseconds");
    if (command->reply > conv->head)
        return state_refuse(apply, ERR_BAD_REQUEST, "reply names a sequence that is not there");
    if (command->thread != 0) {
        err = count_reply(apply, conv, command->thread);
        if (err != 0 || apply->result->err != 0)
            return err;
    }
    uint64_t ttl_s = command->ttl_s != 0 ? command->ttl_s : conv->header->ttl_s;
    if (ttl_s > TTL_MAX_S)
        ttl_s = TTL_MAX_S;
    Loquat__Record record = LOQUAT__RECORD__INIT;
    record.ts = command->ts != 0 && command->admin ? command->ts : apply->now_ms;
    record.kind = command->kind;
    record.xkind = command->xkind;
    record.from = command->user;
    record.cid = command->cid;
    record.body = command->body;
    record.reply = command->reply;
    record.thread = command->thread;
    record.n_mentions = command->n_mentions;
    record.mentions = command->mentions;
    record.mention_all = command->mention_all;
    record.expires = ttl_s != 0 ? record.ts + ttl_s * 1000 : 0;
    uint64_t seq = state_append(apply, conv, &record, apply->result);
    if (member != NULL)
        state_member_wrote(apply, member, seq, conv->n);
    return 0;
}

/* ---- edit and delete ---- */

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
           bytes_same(record->body, command->body);
}

int apply_op_edit(struct apply *apply, const Loquat__Command *command)
{
    struct conv *conv = NULL;
    struct member *member = NULL;
    int err = apply_find(apply, command, &conv, &member);
    if (err != 0 || conv == NULL)
        return err;
    bool found = false;
    err = apply_first_answer(apply, conv, command, same_edit, &found);
    if (err != 0 || found)
        return err;
    Loquat__Record *target = NULL;
    err = find_target(apply, conv, command->target, &target);
    if (err != 0 || target == NULL)
        return err;
    if (target->erased)
        return state_refuse(apply, ERR_NOT_FOUND, "the message was deleted");
    if (strcmp(target->from, command->user) != 0)
        return state_refuse(apply, ERR_FORBIDDEN, "only the author edits a message");
    if (command->kind != 0 && command->kind != target->kind)
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

/* The message, its edits and its fold lose their content; the sequences stay. */
static int erase(struct apply *apply, struct conv *conv, uint64_t seq, Loquat__Record *record)
{
    Loquat__Fold *fold = NULL;
    int err = state_fold(apply, conv, seq, &apply->arena, &fold);
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
    fold->erased = true;
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
    int err = apply_find(apply, command, &conv, &member);
    if (err != 0 || conv == NULL)
        return err;
    bool found = false;
    err = apply_first_answer(apply, conv, command, same_delete, &found);
    if (err != 0 || found)
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
    state_append(apply, conv, &record, apply->result);
    return erase(apply, conv, command->target, target);
}

/* ---- marks ---- */

/* How many messages the log held up to and including `seq`. */
static int ordinal_at(struct apply *apply, struct conv *conv, uint64_t seq, uint64_t *n)
{
    if (seq >= conv->head) {
        *n = conv->n;
        return 0;
    }
    *n = conv->header->expired;
    if (seq < conv->header->floor || seq == 0)
        return 0;
    Loquat__Record *record = NULL;
    int err = state_record(apply, conv, seq, &apply->arena, &record);
    if (err == 0)
        *n = record_n(record, seq);
    return err == ERR_NOT_FOUND ? 0 : err;
}

int apply_op_mark(struct apply *apply, const Loquat__Command *command)
{
    struct conv *conv = NULL;
    struct member *member = NULL;
    int err = apply_find(apply, command, &conv, &member);
    if (err != 0 || conv == NULL)
        return err;
    if (member == NULL)
        return state_refuse(apply, ERR_NOT_FOUND, "no such conversation");
    Loquat__Member *row = member->row;
    uint64_t read = command->read < conv->head ? command->read : conv->head;
    uint64_t delivered = command->delivered < conv->head ? command->delivered : conv->head;
    if (delivered < read)
        delivered = read; /* what was read has been delivered */
    if (read <= row->read && delivered <= row->delivered)
        return 0;
    if (read > row->read) {
        uint64_t n = 0;
        err = ordinal_at(apply, conv, read, &n);
        if (err != 0)
            return err;
        row->read = read;
        row->read_n = n;
    }
    if (delivered > row->delivered)
        row->delivered = delivered;
    state_member_save(apply, member);
    if (conv->header->members <= MARK_EVENT_MEMBERS_MAX) {
        struct arena *arena = &apply->out->arena;
        size_t conv_size = strlen(conv->header->id), user_size = strlen(row->user);
        *APPLIED_PUSH(apply->out, mark) = (struct apply_mark){
            .id = conv->id,
            .conv = span_of(arena_copy(arena, conv->header->id, conv_size), conv_size),
            .user = span_of(arena_copy(arena, row->user, user_size), user_size),
            .read = row->read,
            .delivered = row->delivered,
            .members = conv->header->members,
        };
    }
    return 0;
}
