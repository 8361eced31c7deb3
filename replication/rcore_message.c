#include "replication/rcore_message.h"

#include "replication/rcore.h"
#include "store/base/check.h"
#include "store/base/err.h"

static void out_vote(const struct raft_request_vote *vote, Loquat__Raft *out)
{
    out->kind = LOQUAT__RAFT_KIND__RAFT_VOTE;
    out->version = vote->version;
    out->term = vote->term;
    out->candidate = vote->candidate_id;
    out->index = vote->last_log_index;
    out->index_term = vote->last_log_term;
    out->disrupt = vote->disrupt_leader;
    out->pre_vote = vote->pre_vote;
}

static void out_vote_result(const struct raft_request_vote_result *result, Loquat__Raft *out)
{
    out->kind = LOQUAT__RAFT_KIND__RAFT_VOTE_RESULT;
    out->version = result->version;
    out->term = result->term;
    out->granted = result->vote_granted;
    out->pre_vote = result->pre_vote;
    out->features = result->features;
    out->capacity = result->capacity;
}

static void out_append(const struct raft_append_entries *append, Loquat__Raft *out)
{
    out->kind = LOQUAT__RAFT_KIND__RAFT_APPEND;
    out->version = append->version;
    out->term = append->term;
    out->index = append->prev_log_index;
    out->index_term = append->prev_log_term;
    out->commit = append->leader_commit;
}

static void out_append_result(const struct raft_append_entries_result *result, Loquat__Raft *out)
{
    out->kind = LOQUAT__RAFT_KIND__RAFT_APPEND_RESULT;
    out->version = result->version;
    out->term = result->term;
    out->rejected = result->rejected;
    out->index = result->last_log_index;
    out->features = result->features;
    out->capacity = result->capacity;
}

static void out_snapshot(const struct raft_install_snapshot *snapshot, Loquat__Raft *out)
{
    out->kind = LOQUAT__RAFT_KIND__RAFT_SNAPSHOT;
    out->version = snapshot->version;
    out->term = snapshot->term;
    out->index = snapshot->last_index;
    out->index_term = snapshot->last_term;
    out->conf_index = snapshot->conf_index;
}

static void out_timeout_now(const struct raft_timeout_now *now, Loquat__Raft *out)
{
    out->kind = LOQUAT__RAFT_KIND__RAFT_TIMEOUT_NOW;
    out->version = now->version;
    out->term = now->term;
    out->index = now->last_log_index;
    out->index_term = now->last_log_term;
}

void rcore_message_out(const struct raft_message *message, Loquat__Raft *out)
{
    loquat__raft__init(out);
    out->to = message->server_id;
    switch (message->type) {
    case RAFT_REQUEST_VOTE:
        out_vote(&message->request_vote, out);
        return;
    case RAFT_REQUEST_VOTE_RESULT:
        out_vote_result(&message->request_vote_result, out);
        return;
    case RAFT_APPEND_ENTRIES:
        out_append(&message->append_entries, out);
        return;
    case RAFT_APPEND_ENTRIES_RESULT:
        out_append_result(&message->append_entries_result, out);
        return;
    case RAFT_INSTALL_SNAPSHOT:
        out_snapshot(&message->install_snapshot, out);
        return;
    case RAFT_TIMEOUT_NOW:
        out_timeout_now(&message->timeout_now, out);
        return;
    }
    ASSERT(!"a kind of message that is not known here");
}

/* ---- what comes ---- */

static bool entries_valid(const Loquat__Raft *in)
{
    uint64_t term = in->index_term;
    for (size_t i = 0; i < in->n_entries; i++) {
        const Loquat__RaftEntry *entry = in->entries[i];
        if (entry->term < term || entry->term > in->term || entry->term == 0)
            return false; /* terms of a log never fall */
        if (entry->type != RCORE_COMMAND && entry->type != RCORE_BARRIER &&
            entry->type != RCORE_CHANGE)
            return false;
        term = entry->term;
    }
    return true;
}

static bool valid(const Loquat__Raft *in)
{
    bool append = in->kind == LOQUAT__RAFT_KIND__RAFT_APPEND;
    if (in->term == 0 || in->from == 0 || in->version > UINT8_MAX || in->features > UINT16_MAX ||
        in->capacity > UINT16_MAX || (in->n_entries > 0 && !append))
        return false;
    if (in->index > UINT64_MAX - RCORE_APPEND_ENTRIES_MAX || in->index_term > in->term)
        return false;
    if ((in->index == 0) != (in->index_term == 0) &&
        in->kind != LOQUAT__RAFT_KIND__RAFT_APPEND_RESULT)
        return false;
    if (append && in->n_entries > RCORE_APPEND_ENTRIES_MAX)
        return false;
    if (in->kind == LOQUAT__RAFT_KIND__RAFT_SNAPSHOT &&
        (in->index == 0 || in->conf.len == 0 || in->conf_index == 0 || in->conf_index > in->index))
        return false;
    return !append || entries_valid(in);
}

static void in_vote(const Loquat__Raft *in, struct raft_request_vote *vote)
{
    vote->version = (unsigned char)in->version;
    vote->term = in->term;
    vote->candidate_id = in->candidate;
    vote->last_log_index = in->index;
    vote->last_log_term = in->index_term;
    vote->disrupt_leader = in->disrupt;
    vote->pre_vote = in->pre_vote;
}

static void in_vote_result(const Loquat__Raft *in, struct raft_request_vote_result *result)
{
    result->version = (unsigned char)in->version;
    result->term = in->term;
    result->vote_granted = in->granted;
    result->pre_vote = in->pre_vote;
    result->features = (unsigned short)in->features;
    result->capacity = (unsigned short)in->capacity;
}

static void in_append(const Loquat__Raft *in, struct raft_append_entries *append)
{
    append->version = (unsigned char)in->version;
    append->term = in->term;
    append->prev_log_index = in->index;
    append->prev_log_term = in->index_term;
    append->leader_commit = in->commit;
}

static void in_append_result(const Loquat__Raft *in, struct raft_append_entries_result *result)
{
    result->version = (unsigned char)in->version;
    result->term = in->term;
    result->rejected = in->rejected;
    result->last_log_index = in->index;
    result->features = (unsigned short)in->features;
    result->capacity = (unsigned short)in->capacity;
}

static void in_snapshot(const Loquat__Raft *in, struct raft_install_snapshot *snapshot)
{
    snapshot->version = (unsigned char)in->version;
    snapshot->term = in->term;
    snapshot->last_index = in->index;
    snapshot->last_term = in->index_term;
    snapshot->conf_index = in->conf_index;
}

static void in_timeout_now(const Loquat__Raft *in, struct raft_timeout_now *now)
{
    now->version = (unsigned char)in->version;
    now->term = in->term;
    now->last_log_index = in->index;
    now->last_log_term = in->index_term;
}

int rcore_message_in(const Loquat__Raft *in, struct raft_message *message)
{
    if (!valid(in))
        return ERR_CORRUPT;
    *message = (struct raft_message){.server_id = in->from};
    switch (in->kind) {
    case LOQUAT__RAFT_KIND__RAFT_VOTE:
        message->type = RAFT_REQUEST_VOTE;
        in_vote(in, &message->request_vote);
        return in->candidate == in->from ? 0 : ERR_CORRUPT;
    case LOQUAT__RAFT_KIND__RAFT_VOTE_RESULT:
        message->type = RAFT_REQUEST_VOTE_RESULT;
        in_vote_result(in, &message->request_vote_result);
        return 0;
    case LOQUAT__RAFT_KIND__RAFT_APPEND:
        message->type = RAFT_APPEND_ENTRIES;
        in_append(in, &message->append_entries);
        return 0;
    case LOQUAT__RAFT_KIND__RAFT_APPEND_RESULT:
        message->type = RAFT_APPEND_ENTRIES_RESULT;
        in_append_result(in, &message->append_entries_result);
        return 0;
    case LOQUAT__RAFT_KIND__RAFT_SNAPSHOT:
        message->type = RAFT_INSTALL_SNAPSHOT;
        in_snapshot(in, &message->install_snapshot);
        return 0;
    case LOQUAT__RAFT_KIND__RAFT_TIMEOUT_NOW:
        message->type = RAFT_TIMEOUT_NOW;
        in_timeout_now(in, &message->timeout_now);
        return 0;
    default:
        return ERR_CORRUPT;
    }
}

struct raft_entry *rcore_entries_in(const struct rcore_entry *entries, size_t count)
{
    if (count == 0)
        return NULL;
    size_t size = 8;
    for (size_t i = 0; i < count; i++)
        size += (entries[i].bytes.n + 7) & ~(size_t)7;
    char *batch = raft_malloc(size), *at = batch;
    struct raft_entry *made = xcalloc(count, sizeof *made);
    for (size_t i = 0; i < count; i++) {
        size_t n = entries[i].bytes.n;
        if (n > 0)
            memcpy(at, entries[i].bytes.p, n);
        made[i] = (struct raft_entry){.term = entries[i].term,
                                      .type = (enum raft_entry_type)entries[i].type,
                                      .buf = {at, n},
                                      .batch = batch};
        at += (n + 7) & ~(size_t)7;
    }
    return made;
}
