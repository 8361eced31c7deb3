/* store/apply_own.c: what one user alone sees of a conversation: messages deleted for himself, how
 * far he has read its threads. No records of the conversation: nobody else learns of it. */
#include "store/base/err.h"
#include "store/base/json.h"
#include "store/base/record.h"
#include "store/hidden.h"
#include "store/thread.h"

/* A record for the user's own log, in the user's partition. */
static void note(struct apply *apply, const Loquat__Command *from, uint32_t kind, struct span body)
{
    Loquat__Command command = LOQUAT__COMMAND__INIT;
    command.op = LOQUAT__OP__OP_USER_NOTE;
    command.user = from->user;
    command.kind = kind;
    command.body = (ProtobufCBinaryData){body.n, (uint8_t *)(uintptr_t)body.p};
    state_out(apply, partition_of(user_log_id(span_str(from->user)), apply->partitions), &command);
}

/* The conversation and the membership, or the refusal: then *member is NULL. */
static int find(struct apply *apply, const Loquat__Command *command, struct conv **conv,
                struct member **member)
{
    int err = apply_find(apply, command, conv, member);
    if (err == 0 && *conv != NULL && *member == NULL)
        return state_refuse(apply, ERR_NOT_FOUND, "no such conversation");
    return err;
}

/* ---- hide ---- */

int apply_op_hide(struct apply *apply, const Loquat__Command *command)
{
    struct conv *conv = NULL;
    struct member *member = NULL;
    Loquat__Record *target = NULL;
    int err = find(apply, command, &conv, &member);
    if (err != 0 || member == NULL)
        return err;
    uint64_t seq = command->target;
    uint64_t low = conv->header->history_joined ? member->row->joined_seq : 1;
    bool there = seq >= low && seq >= conv->header->floor && seq > 0 && seq <= conv->head;
    err = there ? state_record(apply, conv, seq, &apply->arena, &target) : ERR_NOT_FOUND;
    if (err == ERR_NOT_FOUND || (err == 0 && !kind_is_message(target->kind)))
        return state_refuse(apply, ERR_NOT_FOUND, "no such message");
    struct key key = key_hidden(apply->partition, conv->id, span_str(command->user), seq);
    if (err == 0)
        err = state_get(apply, KV_CONV, key_span(&key), &apply->value);
    if (err != ERR_NOT_FOUND)
        return err; /* it is so already */
    if (member->row->hidden == HIDDEN_MAX)
        return state_refuse(apply, ERR_TOO_LARGE,
                            "you have deleted as many messages here for yourself as can be");
    state_put(apply, KV_CONV, key_span(&key), (struct span){0});
    member->row->hidden++;
    state_member_save(apply, member);
    struct buf body = {0};
    buf_add_str(&body, "{\"c\":");
    json_put_string(&body, span_str(command->conv));
    buf_add_str(&body, ",\"s\":");
    json_put_u64(&body, seq);
    buf_add_byte(&body, '}');
    note(apply, command, LOQUAT__KIND__KIND_HIDE, buf_span(&body));
    buf_close(&body);
    return 0;
}

/* ---- places in threads ---- */

int apply_op_thread_mark(struct apply *apply, const Loquat__Command *command)
{
    struct conv *conv = NULL;
    struct member *member = NULL;
    Loquat__Fold *fold = NULL;
    bool moved = false;
    int err = find(apply, command, &conv, &member);
    if (err != 0 || member == NULL)
        return err;
    uint64_t root = command->thread;
    if (root == 0 || root < conv->header->floor || root > conv->head)
        return state_refuse(apply, ERR_NOT_FOUND, "no such thread");
    err = state_fold(apply, conv, root, &apply->arena, &fold);
    if (err != 0)
        return err;
    if (fold->last_reply == 0)
        return state_refuse(apply, ERR_NOT_FOUND, "no such thread");
    uint64_t read = command->read < conv->head ? command->read : conv->head;
    err = thread_read_to(apply, conv, span_str(command->user), root, read, &moved);
    if (err == 0 && moved)
        apply_tell_mark(apply, conv, member, (struct apply_mark){.thread = root, .read = read});
    return err;
}
