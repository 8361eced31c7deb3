/* store/apply_message.c: commands that write and mark messages. */
#include "store/base/err.h"
#include "store/base/record.h"
#include "store/mention.h"
#include "store/thread.h"

#define TS_MAX 253402300799999ull        /* the end of the year 9999 */
#define TTL_MAX_S (100ull * 366 * 86400) /* more is as good as for ever */

/* ---- send ---- */

static bool same_send(const Loquat__Record *record, const Loquat__Command *command)
{
    if (record->kind != command->kind || strcmp(record->xkind, command->xkind) != 0 ||
        !state_bytes_same(record->body, command->body) || record->reply != command->reply ||
        record->thread != command->thread || record->mention_all != command->mention_all ||
        record->n_mentions != command->n_mentions)
        return false;
    for (size_t i = 0; i < record->n_mentions; i++)
        if (strcmp(record->mentions[i], command->mentions[i]) != 0)
            return false;
    return true;
}

/* A thread hangs on a message; its root, whose fold is *fold, counts what hangs on it. */
static int count_reply(struct apply *apply, struct conv *conv, uint64_t root, Loquat__Fold **fold)
{
    Loquat__Record *record = NULL;
    int err = root < conv->header->floor ? ERR_NOT_FOUND
                                         : state_record(apply, conv, root, &apply->arena, &record);
    if (err == ERR_NOT_FOUND ||
        (err == 0 && (record->erased || !kind_is_message(record->kind) || record->thread != 0)))
        return state_refuse(apply, ERR_BAD_REQUEST, "thread is not a message that can have one");
    if (err == 0)
        err = state_fold(apply, conv, root, &apply->arena, fold);
    if (err == 0)
        (*fold)->replies++;
    return err;
}

enum { EXPIRING_STEP = 1024 };

/* What is noted of a message beside its record. */
static int note_message(struct apply *apply, struct conv *conv, uint64_t seq,
                        const Loquat__Record *record, Loquat__Fold *root)
{
    mention_note(apply, conv, seq, record);
    Loquat__ConvHeader *header = conv->header;
    if (record->expires != 0 && apply->entry_version >= ENTRY_VERSION_SOCIAL &&
        header->expiring_until <= seq) {
        header->expiring_from = header->expiring_from == 0 ? seq : header->expiring_from;
        header->expiring_until = seq + EXPIRING_STEP; /* so that few of them save the header */
        state_conv_save(apply, conv);
    }
    if (root == NULL)
        return 0;
    bool moved;
    thread_note(apply, conv, record->thread, root, seq, record->expires);
    state_fold_save(apply, conv, record->thread, root);
    return thread_read_to(apply, conv, span_str(record->from), record->thread, seq, &moved);
}

/* Who writes has read it; of a large conversation it is counted from here on who else has. */
static void wrote(struct apply *apply, struct conv *conv, struct member *member, uint64_t seq)
{
    if (member != NULL)
        state_member_wrote(apply, member, seq, conv->n);
    conv->seen_seq = conv->header->members > MARK_EVENT_MEMBERS_MAX ? seq : 0;
    conv->seen_n = member != NULL;
}

int apply_op_send(struct apply *apply, const Loquat__Command *command)
{
    struct conv *conv = NULL;
    struct member *member = NULL;
    int err = apply_begin(apply, command, same_send, &conv, &member);
    if (err != 0 || conv == NULL)
        return err;
    if (!kind_is_message(command->kind))
        return state_refuse(apply, ERR_BAD_REQUEST, "not a kind that can be sent");
    if (conv->header->announce && !command->admin && member->row->role < LOQUAT__ROLE__ROLE_ADMIN)
        return state_refuse(apply, ERR_FORBIDDEN, "only owners and admins write here");
    if (command->mention_all && apply->entry_version >= ENTRY_VERSION_CHAT && !command->admin &&
        conv->header->kind == LOQUAT__CONV_KIND__CONV_GROUP &&
        conv->header->members > MENTION_ALL_MEMBERS_MAX &&
        member->row->role < LOQUAT__ROLE__ROLE_ADMIN)
        return state_refuse(apply, ERR_FORBIDDEN,
                            "only owners and admins mention all in a group of this size");
    if (command->ts > TS_MAX)
        return state_refuse(apply, ERR_BAD_REQUEST, "ts is no time in milliseconds");
    if (command->reply > conv->head)
        return state_refuse(apply, ERR_BAD_REQUEST, "reply names a sequence that is not there");
    Loquat__Fold *root = NULL;
    if (command->thread != 0) {
        err = count_reply(apply, conv, command->thread, &root);
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
    wrote(apply, conv, member, seq);
    return note_message(apply, conv, seq, &record, root);
}

/* ---- marks ---- */

static struct span kept(struct apply *apply, const char *text)
{
    size_t n = strlen(text);
    return span_of(arena_copy(&apply->out->arena, text, n), n);
}

void apply_tell_mark(struct apply *apply, const struct conv *conv, const struct member *member,
                     struct apply_mark mark)
{
    mark.id = conv->id;
    mark.conv = kept(apply, conv->header->id);
    mark.user = kept(apply, member->row->user);
    mark.members = conv->header->members;
    *APPLIED_PUSH(apply->out, mark) = mark;
}

/* In memory alone: a replica that begins to lead counts from the next message on. */
static void tell_seen(struct apply *apply, struct conv *conv, uint64_t n)
{
    struct applied *out = apply->out;
    conv->seen_n = n;
    for (size_t i = out->mark_count; i > 0; i--) /* of one entry only the newest count counts */
        if (out->marks[i - 1].seen != 0 && conv_id_eq(out->marks[i - 1].id, conv->id)) {
            out->marks[i - 1].seen = n;
            return;
        }
    *APPLIED_PUSH(out, mark) = (struct apply_mark){.id = conv->id,
                                                   .conv = kept(apply, conv->header->id),
                                                   .read = conv->seen_seq,
                                                   .seen = n,
                                                   .members = conv->header->members};
}

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
    uint64_t before = row->read;
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
    if (conv->header->members <= MARK_EVENT_MEMBERS_MAX)
        apply_tell_mark(apply, conv, member,
                        (struct apply_mark){.read = row->read, .delivered = row->delivered});
    else if (before < conv->seen_seq && row->read >= conv->seen_seq)
        tell_seen(apply, conv, conv->seen_n + 1);
    return 0;
}
