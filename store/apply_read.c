/* store/apply_read.c: questions about the state, answered by the thread that owns it. */
#include <stdio.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/record.h"
#include "store/hidden.h"
#include "store/membership.h"
#include "store/reactions.h"
#include "store/thread.h"
#include "store/unread.h"

enum {
    LAST_SCAN_MAX = 64,
    READ_PAGE_MAX = 1000,
    MEMBERS_SCAN_MAX = 4000, /* rows looked at for one page of members */
    EDITS_MAX = 100,         /* of a message, that are shown */
    THREADS_MAX = 100,       /* of one page */
};

static char *copy_text(struct arena *arena, const char *text)
{
    return arena_copy(arena, text, strlen(text));
}

static char *copy_span(struct arena *arena, struct span text)
{
    return arena_copy(arena, text.p, text.n);
}

static int own_reactions(struct apply *apply, const struct conv *conv, Loquat__Item *item,
                         const char *user, const Loquat__Fold *fold, struct arena *arena)
{
    apply->value.n = 0;
    if (fold->n_reactions > 0 && user[0] != 0) {
        struct key key = key_reactions(apply->partition, conv->id, item->seq, span_str(user));
        int err = kv_get(apply->kv, KV_CONV, key_span(&key), &apply->value);
        if (err == ERR_NOT_FOUND)
            apply->value.n = 0;
        else if (err != 0)
            return err;
    }
    return reactions_give(item, fold, buf_span(&apply->value), arena);
}

/* Finds the newest message by its ordinal: it is the first record that has the head's. */
static int find_newest(struct apply *apply, struct conv *conv)
{
    uint64_t low = conv->header->floor > 0 ? conv->header->floor : 1, high = conv->head;
    if (conv->newest_seq != 0 || conv->n <= conv->header->expired)
        return 0;
    while (low <= high) {
        uint64_t seq = low + (high - low) / 2;
        struct key key = key_seq(apply->partition, conv->id, seq);
        struct record_view record;
        int err = kv_get(apply->kv, KV_LOG, key_span(&key), &apply->value);
        if (err == 0)
            err = record_view(buf_span(&apply->value), &record);
        if (err != 0)
            return err == ERR_NOT_FOUND ? 0 : err;
        if (seq - record.gap < conv->n) {
            low = seq + 1;
            continue;
        }
        conv->newest_seq = seq;
        conv->newest_ms = record.ts;
        high = seq - 1;
    }
    return 0;
}

/* The newest message that can still be shown, looked for in the last records only. */
static int find_last(struct apply *apply, const struct conv *conv, uint64_t from, uint64_t now_ms,
                     const struct member *member, struct arena *arena, Loquat__Item **last)
{
    const char *user = member != NULL ? member->row->user : "";
    bool hidden = false;
    *last = NULL;
    for (uint64_t i = 0; i < LAST_SCAN_MAX && conv->head >= from + i && conv->head > i; i++) {
        uint64_t seq = conv->head - i;
        struct key key = key_seq(apply->partition, conv->id, seq);
        int err = kv_get(apply->kv, KV_LOG, key_span(&key), &apply->value);
        if (err == ERR_NOT_FOUND)
            continue;
        Loquat__Record *record = NULL;
        if (err == 0)
            err = record_decode(buf_span(&apply->value), &arena->allocator, &record);
        if (err != 0)
            return err;
        if (!kind_is_message(record->kind) || record->erased || record->stripped ||
            (record->expires != 0 && record->expires <= now_ms))
            continue;
        if (member != NULL && member->row->hidden > 0)
            err = hidden_has(apply->kv, NULL, apply->partition, conv->id, span_str(user), seq,
                             &hidden);
        if (err != 0)
            return err;
        if (hidden)
            continue;
        Loquat__Item *item = arena_alloc(arena, sizeof *item);
        loquat__item__init(item);
        item->seq = seq;
        item->record.len = apply->value.n;
        item->record.data = arena_copy(arena, apply->value.p, apply->value.n);
        Loquat__Fold *fold = NULL;
        err = state_fold(apply, conv, seq, arena, &fold);
        if (err != 0)
            return err;
        item->edited = fold->edited;
        item->body = fold->body;
        item->replies = fold->replies;
        item->pinned = fold->pinned;
        *last = item;
        return own_reactions(apply, conv, item, user, fold, arena);
    }
    return 0;
}

/* Those that lie where the reader may read. */
static void fill_pins(const Loquat__ConvHeader *header, struct arena *arena, Loquat__ConvInfo *info)
{
    uint64_t low = info->since > info->floor ? info->since : info->floor;
    info->pins = arena_alloc(arena, (header->n_pins + 1) * sizeof *info->pins);
    for (size_t i = 0; i < header->n_pins; i++)
        if (header->pins[i] >= low)
            info->pins[info->n_pins++] = header->pins[i];
}

static int fill_info(struct apply *apply, struct conv *conv, const struct member *member,
                     uint64_t now_ms, struct arena *arena, Loquat__ConvInfo *info)
{
    const Loquat__ConvHeader *header = conv->header;
    info->kind = header->kind;
    info->name = copy_text(arena, header->name);
    info->topic = copy_text(arena, header->topic);
    info->members = header->members;
    info->head = conv->head;
    info->floor = header->floor > 0 ? header->floor : 1;
    info->n = conv->n;
    info->ttl_s = header->ttl_s;
    info->created = header->created;
    info->history_joined = header->history_joined;
    info->announce = header->announce;
    info->lang = copy_text(arena, header->lang);
    info->search_off = header->search_off;
    info->since = 1;
    int err = 0;
    if (member != NULL) {
        const Loquat__Member *row = member->row;
        info->role = row->role;
        info->read = row->read;
        info->delivered = row->delivered;
        if (header->history_joined)
            info->since = row->joined_seq;
        if (header->kind == LOQUAT__CONV_KIND__CONV_DIRECT)
            info->with = copy_text(arena, strcmp(header->user_a, row->user) == 0 ? header->user_b
                                                                                 : header->user_a);
        err = unread_count(apply, conv, member, now_ms, &info->unread, &info->mentions);
    }
    fill_pins(header, arena, info);
    if (err == 0)
        err = find_newest(apply, conv);
    if (conv->newest_seq >= info->since && conv->newest_seq >= info->floor)
        info->newest = conv->newest_ms;
    if (err == 0)
        err = find_last(apply, conv, info->since > info->floor ? info->since : info->floor, now_ms,
                        member, arena, &info->last);
    return err;
}

static int read_conv(struct apply *apply, const Loquat__Read *read, const char *name,
                     uint64_t now_ms, struct arena *arena, Loquat__ConvInfo *info)
{
    struct conv *conv = NULL;
    struct member *member = NULL;
    info->conv = copy_text(arena, name);
    int err = state_conv(apply, span_str(name), &conv);
    if (err == 0) {
        err = state_member(apply, conv, span_str(read->user), &member);
        if (err == 0 && !state_member_active(member))
            member = NULL;
        if (err == ERR_NOT_FOUND || err == 0)
            err = member == NULL && !read->all ? ERR_NOT_FOUND : 0;
    }
    if (err == ERR_CONFLICT)
        err = ERR_NOT_FOUND;
    if (err == 0)
        err = fill_info(apply, conv, member, now_ms, arena, info);
    info->err = err;
    return err == ERR_NOT_FOUND ? 0 : err;
}

static int read_convs(struct apply *apply, const Loquat__Read *read, uint64_t now_ms,
                      struct arena *arena, Loquat__Reply *reply)
{
    reply->convs = arena_alloc(arena, (read->n_convs + 1) * sizeof *reply->convs);
    for (size_t i = 0; i < read->n_convs; i++) {
        Loquat__ConvInfo *info = arena_alloc(arena, sizeof *info);
        loquat__conv_info__init(info);
        int err = read_conv(apply, read, read->convs[i], now_ms, arena, info);
        if (err != 0)
            return err;
        reply->convs[reply->n_convs++] = info;
    }
    return 0;
}

/* The conversation, and the reader as its member; NULL only where `read->all`. ERR_NOT_FOUND: not
 * for this reader. */
static int find_both(struct apply *apply, const Loquat__Read *read, struct conv **conv,
                     struct member **self)
{
    *self = NULL;
    int err = state_conv(apply, span_str(read->conv), conv);
    if (err != 0)
        return err == ERR_CONFLICT ? ERR_NOT_FOUND : err;
    err = state_member(apply, *conv, span_str(read->user), self);
    if (err == 0 && !state_member_active(*self))
        err = ERR_NOT_FOUND;
    if (err == ERR_NOT_FOUND)
        *self = NULL;
    return err == ERR_NOT_FOUND && read->all ? 0 : err;
}

static bool is_admin(const struct member *self)
{
    return self != NULL && self->row->role >= LOQUAT__ROLE__ROLE_ADMIN;
}

/* When that was: for who came back since, the time of the record by which he had come before. */
static int joined_at(struct apply *apply, const struct conv *conv, const Loquat__Member *row,
                     uint64_t at, struct arena *arena, uint64_t *joined)
{
    uint64_t seq = membership_joined_at(row, at);
    Loquat__Record *record = NULL;
    *joined = row->joined;
    if (seq == row->joined_seq)
        return 0;
    int err = state_record(apply, conv, seq, arena, &record);
    *joined = err == 0 ? record->ts : 0;
    return err == ERR_NOT_FOUND ? 0 : err; /* trimmed */
}

/* A row of a page: as it is, or as it was right after the record `at`: then without marks. */
static int member_row(struct apply *apply, const struct conv *conv, const Loquat__Member *row,
                      uint64_t at, struct arena *arena, Loquat__Member **out)
{
    *out = arena_alloc(arena, sizeof **out);
    loquat__member__init(*out);
    (*out)->user = copy_text(arena, row->user);
    (*out)->joined = row->joined;
    (*out)->role = at != 0 ? membership_role_at(row, at) : row->role;
    if (at != 0)
        return joined_at(apply, conv, row, at, arena, &(*out)->joined);
    (*out)->read = row->read;
    (*out)->delivered = row->delivered;
    return 0;
}

/* Members whose marks are newer in memory than on disk are answered from memory. */
static int read_members(struct apply *apply, const Loquat__Read *read, struct arena *arena,
                        Loquat__Reply *reply)
{
    struct conv *conv = NULL;
    struct member *self = NULL;
    int err = find_both(apply, read, &conv, &self);
    if (err != 0)
        return err;
    if (self != NULL && conv->header->history_joined && read->at != 0 &&
        read->at < self->row->joined_seq)
        return ERR_NOT_FOUND; /* of before the reader came */
    size_t max = read->max > 0 && read->max < READ_PAGE_MAX ? read->max : READ_PAGE_MAX;
    reply->members = arena_alloc(arena, max * sizeof *reply->members);
    size_t scanned = 0;
    char *last = NULL;
    struct key from = key_member(apply->partition, conv->id, span_str(read->after));
    struct key until = key_member(apply->partition, conv->id, (struct span){0});
    until.p[until.n - 1]++;
    struct kv_iter iter;
    kv_iter_open(&iter, apply->kv, NULL, KV_CONV, key_span(&from), key_span(&until));
    for (kv_iter_first(&iter); kv_iter_valid(&iter) && err == 0; kv_iter_next(&iter)) {
        struct span key = kv_iter_key(&iter);
        struct span user = span_of(key.p + KEY_CONV_SIZE + 1, key.n - KEY_CONV_SIZE - 1);
        if (read->after[0] != 0 && span_is(user, read->after))
            continue;
        if (scanned++ == MEMBERS_SCAN_MAX) {
            reply->after = last;
            break;
        }
        last = copy_span(arena, user);
        struct member *member = NULL;
        err = state_member(apply, conv, user, &member);
        uint32_t role = err != 0        ? LOQUAT__ROLE__ROLE_NONE
                        : read->at != 0 ? membership_role_at(member->row, read->at)
                                        : member->row->role;
        if (role == LOQUAT__ROLE__ROLE_NONE || member->row->read < read->from)
            continue;
        if (reply->n_members == max) {
            reply->after = reply->members[max - 1]->user;
            break;
        }
        Loquat__Member **out = &reply->members[reply->n_members++];
        err = member_row(apply, conv, member->row, read->at, arena, out);
    }
    if (err == 0)
        err = kv_iter_error(&iter);
    kv_iter_close(&iter);
    return err;
}

/* The ids of a user's conversations, in key order; `after` is the last one of the page before. */
static int read_user(struct apply *apply, const Loquat__Read *read, struct arena *arena,
                     Loquat__Reply *reply)
{
    struct conv *log = NULL;
    int err = state_user_log(apply, span_str(read->user), &log);
    if (err != 0)
        return err;
    size_t max = read->max > 0 && read->max < READ_PAGE_MAX ? read->max : READ_PAGE_MAX;
    reply->ids = arena_alloc(arena, max * sizeof *reply->ids);
    reply->rows = arena_alloc(arena, max * sizeof *reply->rows);
    reply->head = log->head;
    if (read->settings)
        err = apply_settings(apply, span_str(read->user), arena, &reply->settings);
    if (err != 0)
        return err;
    struct conv_id first = {0};
    if (read->after[0] != 0)
        first = conv_id_of(span_str(read->after));
    struct key from = key_user_conv(apply->partition, log->id, first);
    struct key until = key_user_log(apply->partition, log->id, 0);
    if (read->conv[0] != 0) {
        from = key_user_conv(apply->partition, log->id, conv_id_of(span_str(read->conv)));
        until = from;
        until.p[until.n++] = 0;
    }
    struct kv_iter iter;
    kv_iter_open(&iter, apply->kv, NULL, KV_USER, key_span(&from), key_span(&until));
    for (kv_iter_first(&iter); kv_iter_valid(&iter) && err == 0; kv_iter_next(&iter)) {
        struct span value = kv_iter_value(&iter);
        Loquat__UserConv *row =
            loquat__user_conv__unpack(&arena->allocator, value.n, (const uint8_t *)value.p);
        if (row == NULL) {
            err = ERR_CORRUPT;
        } else if (row->gone || (read->after[0] != 0 && strcmp(row->conv, read->after) == 0)) {
            continue;
        } else if (reply->n_ids == max) {
            reply->after = reply->ids[max - 1];
            break;
        } else {
            reply->ids[reply->n_ids++] = row->conv;
            if (row->muted_until != 0 || row->pinned != 0 || row->hidden != 0 || row->draft[0] != 0)
                reply->rows[reply->n_rows++] = row;
        }
    }
    if (err == 0)
        err = kv_iter_error(&iter);
    kv_iter_close(&iter);
    return err;
}

/* Those that work, for who may take them back. */
static int read_invites(struct apply *apply, const Loquat__Read *read, uint64_t now_ms,
                        struct arena *arena, Loquat__Reply *reply)
{
    struct conv *conv = NULL;
    struct member *self = NULL;
    int err = find_both(apply, read, &conv, &self);
    if (err != 0)
        return err;
    if (!read->all && !is_admin(self))
        return ERR_FORBIDDEN;
    const Loquat__ConvHeader *header = conv->header;
    reply->invites = arena_alloc(arena, (header->n_invites + 1) * sizeof *reply->invites);
    for (size_t i = 0; i < header->n_invites; i++) {
        if (!apply_invite_works(header->invites[i], now_ms))
            continue;
        Loquat__Invite *invite = arena_alloc(arena, sizeof *invite);
        *invite = *header->invites[i];
        invite->token = copy_text(arena, invite->token);
        invite->by = copy_text(arena, invite->by);
        reply->invites[reply->n_invites++] = invite;
    }
    return 0;
}

static int add_version(struct apply *apply, const struct conv *conv, uint64_t seq,
                       struct arena *arena, Loquat__Reply *reply, uint64_t *before)
{
    Loquat__Record *record = NULL;
    int err = state_record(apply, conv, seq, arena, &record);
    if (err != 0)
        return err;
    *before = record->thread;
    if (record->stripped) /* compaction has taken its text */
        return 0;
    Loquat__Item *item = arena_alloc(arena, sizeof *item);
    loquat__item__init(item);
    item->seq = seq;
    item->record.len = apply->value.n;
    item->record.data = arena_copy(arena, apply->value.p, apply->value.n);
    reply->items[reply->n_items++] = item;
    return 0;
}

/* What the message said: its newest edits, newest first, then as it was written. */
static int read_edits(struct apply *apply, const Loquat__Read *read, uint64_t now_ms,
                      struct arena *arena, Loquat__Reply *reply)
{
    struct conv *conv = NULL;
    struct member *self = NULL;
    Loquat__Record *record = NULL;
    Loquat__Fold *fold = NULL;
    bool hidden = false;
    int err = find_both(apply, read, &conv, &self);
    if (err != 0)
        return err;
    uint64_t seq = read->from, low = conv->header->floor > 0 ? conv->header->floor : 1;
    if (self != NULL && conv->header->history_joined && self->row->joined_seq > low)
        low = self->row->joined_seq;
    err = seq >= low && seq <= conv->head ? state_record(apply, conv, seq, arena, &record)
                                          : ERR_NOT_FOUND;
    if (err == 0 && self != NULL && self->row->hidden > 0)
        err = hidden_has(apply->kv, NULL, apply->partition, conv->id, span_str(read->user), seq,
                         &hidden);
    if (err == 0 && (hidden || !kind_is_message(record->kind) || record->erased ||
                     (record->expires != 0 && record->expires <= now_ms)))
        err = ERR_NOT_FOUND;
    if (err != 0)
        return err;
    if (!read->all && strcmp(record->from, read->user) != 0 &&
        conv->header->kind != LOQUAT__CONV_KIND__CONV_DIRECT && !is_admin(self))
        return ERR_FORBIDDEN;
    err = state_fold(apply, conv, seq, arena, &fold);
    if (err != 0)
        return err;
    reply->items = arena_alloc(arena, (EDITS_MAX + 1) * sizeof *reply->items);
    uint64_t at = fold->edit_seq, unused;
    for (int i = 0; i < EDITS_MAX && at != 0 && err == 0; i++)
        err = add_version(apply, conv, at, arena, reply, &at);
    if (err == ERR_NOT_FOUND) /* what is below was trimmed */
        err = 0;
    return err == 0 ? add_version(apply, conv, seq, arena, reply, &unused) : err;
}

static int read_threads(struct apply *apply, const Loquat__Read *read, uint64_t now_ms,
                        struct arena *arena, Loquat__Reply *reply)
{
    struct conv *conv = NULL;
    struct member *self = NULL;
    int err = find_both(apply, read, &conv, &self);
    if (err == 0 && self == NULL)
        err = ERR_NOT_FOUND; /* what one sees of threads is a member's */
    size_t max = read->max > 0 && read->max < THREADS_MAX ? read->max : THREADS_MAX;
    return err == 0 ? thread_list(apply, conv, self, read->from, max, now_ms, arena, reply) : err;
}

static int read_stat(struct apply *apply, struct arena *arena, Loquat__Reply *reply)
{
    char text[256];
    int n = snprintf(text, sizeof text,
                     "{\"partition\":%u,\"applied\":%llu,\"term\":%llu,\"convs_cached\":%zu,"
                     "\"members_cached\":%zu,\"dedup_recent\":%zu}",
                     apply->partition, (unsigned long long)apply->index,
                     (unsigned long long)apply->term, apply->convs.count, apply->members.count,
                     dedup_recent(&apply->dedup));
    ASSERT(n > 0 && (size_t)n < sizeof text);
    reply->stat.len = (size_t)n;
    reply->stat.data = arena_copy(arena, text, (size_t)n);
    return 0;
}

int apply_read(struct apply *apply, const Loquat__Read *read, uint64_t now_ms, struct arena *arena,
               Loquat__Reply *reply)
{
    ASSERT(apply->overlay.count == 0);
    int err;
    if (strlen(read->user) > USER_MAX || strlen(read->after) > USER_MAX ||
        strlen(read->conv) > CONV_ID_MAX)
        return ERR_BAD_REQUEST;
    switch (read->op) {
    case LOQUAT__READ_OP__READ_CONVS:
        err = read_convs(apply, read, now_ms, arena, reply);
        break;
    case LOQUAT__READ_OP__READ_MEMBERS:
        err = read_members(apply, read, arena, reply);
        break;
    case LOQUAT__READ_OP__READ_USER:
        err = read_user(apply, read, arena, reply);
        break;
    case LOQUAT__READ_OP__READ_SETTINGS:
        err = apply_settings(apply, span_str(read->user), arena, &reply->settings);
        break;
    case LOQUAT__READ_OP__READ_INVITES:
        err = read_invites(apply, read, now_ms, arena, reply);
        break;
    case LOQUAT__READ_OP__READ_EDITS:
        err = read_edits(apply, read, now_ms, arena, reply);
        break;
    case LOQUAT__READ_OP__READ_THREADS:
        err = read_threads(apply, read, now_ms, arena, reply);
        break;
    case LOQUAT__READ_OP__READ_STAT:
        err = read_stat(apply, arena, reply);
        break;
    default:
        err = ERR_BAD_REQUEST;
    }
    if (apply->caches_full)
        state_caches_trim(apply, false);
    return err;
}
