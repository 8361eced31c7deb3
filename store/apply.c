#include "store/apply.h"

#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "store/base/record.h"
#include "store/base/wire.h"
#include "store/feedlog.h"
#include "store/state.h"

/* The apl row: version u8, then numbers LE. One row per partition, in the same batch as what it
 * counts as applied. */
enum { APL_VERSION = 1, APL_SIZE = 1 + 8 * 5 };

enum {
    SEAL_ROWS_PER_COMMAND = 2, /* of the generation before, into the batch of an entry */
    SEAL_ROWS_MIN = 16,
    WARM_ROWS = 64, /* about 0.3 ms */
};

static void put_apl(struct apply *apply, struct kv_batch *batch)
{
    char value[APL_SIZE] = {APL_VERSION};
    put_le64(value + 1, apply->index);
    put_le64(value + 9, apply->term);
    put_le64(value + 17, apply->mid_ms);
    put_le64(value + 25, apply->mid_counter);
    put_le64(value + 33, apply->seal_index);
    struct key key = key_partition(apply->partition);
    kv_put(batch, KV_APL, key_span(&key), span_of(value, sizeof value));
}

int apply_row_read(struct span row, uint64_t *index, uint64_t *term)
{
    if (row.n != APL_SIZE || row.p[0] != APL_VERSION)
        return ERR_CORRUPT;
    *index = get_le64(row.p + 1);
    *term = get_le64(row.p + 9);
    return 0;
}

int apply_flushed_index(struct kv *kv, uint32_t partition, uint64_t *index, uint64_t *term)
{
    struct key key = key_partition(partition);
    struct buf value = {0};
    int err = kv_get_flushed(kv, KV_APL, key_span(&key), &value);
    *index = *term = 0;
    if (err == 0)
        err = apply_row_read(buf_span(&value), index, term);
    buf_close(&value);
    return err == ERR_NOT_FOUND ? 0 : err;
}

void *applied_grow(void *array, size_t *cap, size_t size)
{
    *cap = *cap == 0 ? 64 : *cap * 2;
    return xrealloc(array, *cap * size);
}

void applied_init(struct applied *applied)
{
    *applied = (struct applied){0};
    arena_init(&applied->arena);
}

void applied_close(struct applied *applied)
{
    arena_close(&applied->arena);
    free(applied->results);
    free(applied->records);
    free(applied->marks);
    free(applied->outs);
}

/* ---- start: what the log's tail still has to tell ---- */

/* A record written since the last seal: its cid, and that its author has read up to it. */
static int recall_record(struct apply *apply, struct conv *conv, uint64_t seq)
{
    struct arena *arena = &apply->arena;
    Loquat__Record *record = NULL;
    int err = state_record(apply, conv, seq, arena, &record);
    if (err == ERR_NOT_FOUND)
        return 0; /* trimmed since */
    if (err != 0)
        return err;
    struct span from = span_str(record->from);
    if (record->cid[0] != 0) {
        uint64_t hash = 0, other = 0;
        for (uint32_t salt = 0; salt < DEDUP_SALTS; salt++) {
            hash = dedup_hash(from, span_str(record->cid), salt);
            if (!dedup_find_recent(&apply->dedup, conv->id, hash, &other))
                break; /* else another cid with the same hash came first */
        }
        dedup_add(&apply->dedup, conv->id, hash, seq);
    }
    struct member *member = NULL;
    err = kind_is_message(record->kind) ? state_member(apply, conv, from, &member) : ERR_NOT_FOUND;
    if (err == 0 && state_member_active(member) && member->row->read < seq)
        state_member_wrote(apply, member, seq, record_n(record, seq));
    return err == ERR_NOT_FOUND ? 0 : err;
}

static int recall_row(struct apply *apply, struct span row)
{
    while (row.n > 0) {
        struct feedlog_run run;
        struct conv *conv = NULL;
        int err = feedlog_run(&row, &run);
        if (err == 0)
            err = state_conv_by_id(apply, run.conv, &conv);
        else
            return err;
        for (uint64_t i = 0; err == 0 && i < run.count; i++) {
            err = recall_record(apply, conv, run.first + i);
            arena_reset(&apply->arena);
        }
        if (err != 0 && err != ERR_NOT_FOUND)
            return err;
    }
    return 0;
}

static int recall(struct apply *apply)
{
    struct key from = key_number(apply->partition, apply->seal_index + 1);
    struct key until = key_number(apply->partition, UINT64_MAX);
    struct kv_iter iter;
    kv_iter_open(&iter, apply->kv, NULL, KV_FEED, key_span(&from), key_span(&until));
    int err = 0;
    for (kv_iter_first(&iter); kv_iter_valid(&iter) && err == 0; kv_iter_next(&iter))
        err = recall_row(apply, kv_iter_value(&iter));
    if (err == 0)
        err = kv_iter_error(&iter);
    kv_iter_close(&iter);
    return err;
}

static void begin(struct apply *apply, struct kv *kv, uint32_t partition, uint32_t partitions)
{
    *apply = (struct apply){.kv = kv, .partition = partition, .partitions = partitions};
    map_init(&apply->convs);
    map_init(&apply->members);
    map_init(&apply->overlay);
    arena_init(&apply->overlay_arena);
    arena_init(&apply->arena);
    arena_init(&apply->commands);
    dedup_init(&apply->dedup, kv, partition, partitions);
}

static int load(struct apply *apply)
{
    struct key key = key_partition(apply->partition);
    int err = kv_get(apply->kv, KV_APL, key_span(&key), &apply->value);
    if (err == ERR_NOT_FOUND)
        return 0;
    if (err == 0)
        err = apply_row_read(buf_span(&apply->value), &apply->index, &apply->term);
    if (err != 0)
        return err;
    const char *p = apply->value.p;
    apply->mid_ms = get_le64(p + 17);
    apply->mid_counter = (uint32_t)get_le64(p + 25);
    apply->seal_index = get_le64(p + 33);
    return recall(apply);
}

static void end(struct apply *apply)
{
    state_caches_trim(apply, true);
    map_close(&apply->convs);
    map_close(&apply->members);
    map_close(&apply->overlay);
    arena_close(&apply->overlay_arena);
    arena_close(&apply->arena);
    arena_close(&apply->commands);
    dedup_close(&apply->dedup);
    buf_close(&apply->feed);
    buf_close(&apply->scratch);
    buf_close(&apply->value);
}

int apply_open(struct kv *kv, uint32_t partition, uint32_t partitions, struct apply **out)
{
    struct apply *apply = xmalloc(sizeof *apply);
    begin(apply, kv, partition, partitions);
    int err = load(apply);
    if (err == 0)
        *out = apply;
    else
        apply_close(apply);
    return err;
}

int apply_reload(struct apply *apply)
{
    ASSERT(apply->overlay.count == 0);
    end(apply);
    begin(apply, apply->kv, apply->partition, apply->partitions);
    return load(apply);
}

void apply_close(struct apply *apply)
{
    if (apply == NULL)
        return;
    end(apply);
    free(apply);
}

uint64_t apply_index(const struct apply *apply)
{
    return apply->index;
}

uint64_t apply_term(const struct apply *apply)
{
    return apply->term;
}

int apply_outs(struct apply *apply, struct applied *applied)
{
    struct key from = key_number(apply->partition, 0);
    struct key until = key_number(apply->partition, UINT64_MAX);
    struct kv_iter iter;
    kv_iter_open(&iter, apply->kv, NULL, KV_OUT, key_span(&from), key_span(&until));
    int err = 0;
    for (kv_iter_first(&iter); kv_iter_valid(&iter) && err == 0; kv_iter_next(&iter)) {
        struct span key = kv_iter_key(&iter), value = kv_iter_value(&iter);
        if (value.n < 2) {
            err = ERR_CORRUPT;
            break;
        }
        char *bytes = arena_copy(&applied->arena, value.p + 2, value.n - 2);
        *APPLIED_PUSH(applied, out) = (struct apply_out){
            .number = get_be64(key.p + key.n - 8),
            .partition = get_be16(value.p),
            .command = span_of(bytes, value.n - 2),
        };
    }
    if (err == 0)
        err = kv_iter_error(&iter);
    kv_iter_close(&iter);
    return err;
}

/* ---- warming ---- */

bool apply_warm(struct apply *apply)
{
    bool done = false;
    int err = dedup_warm(&apply->dedup, WARM_ROWS, &done);
    if (err != 0)
        log_warn("the table of cids can't be read; writes go on, slower: run `loquat-compact "
                 "verify`",
                 {"partition", log_int(apply->partition)}, {"err", log_str(err_name(err))});
    return !done;
}

/* ---- entries ---- */

int apply_find(struct apply *apply, const Loquat__Command *command, struct conv **conv,
               struct member **member)
{
    *conv = NULL;
    *member = NULL;
    int err = state_conv_named(apply, apply->conv_id, span_str(command->conv), conv);
    if (err == ERR_NOT_FOUND || err == ERR_CONFLICT) {
        *conv = NULL;
        return state_refuse(apply, ERR_NOT_FOUND, "no such conversation");
    }
    if (err != 0)
        return err;
    err = state_member(apply, *conv, span_str(command->user), member);
    if (err == 0 && !state_member_active(*member))
        *member = NULL;
    if (err != 0 && err != ERR_NOT_FOUND)
        return err;
    if (*member == NULL && !command->admin) {
        *conv = NULL;
        return state_refuse(apply, ERR_NOT_FOUND, "no such conversation");
    }
    return 0;
}

/* True when `record` is what this user wrote under this cid. */
static bool is_answer(const Loquat__Record *record, const Loquat__Command *command)
{
    return strcmp(record->from, command->user) == 0 && strcmp(record->cid, command->cid) == 0;
}

static void answer_again(struct apply *apply, const Loquat__Record *record, uint64_t seq)
{
    struct apply_result *result = apply->result;
    result->dup = true;
    result->seq = seq;
    result->ts = record->ts;
    result->n = record_n(record, seq);
    result->mid = record_mid(record->ts, record->mid_off, apply->partition);
}

int apply_first_answer(struct apply *apply, struct conv *conv, const Loquat__Command *command,
                       bool (*same)(const Loquat__Record *, const Loquat__Command *), bool *found)
{
    *found = false;
    if (command->cid[0] == 0)
        return 0;
    struct span user = span_str(command->user), cid = span_str(command->cid);
    for (uint32_t salt = 0; salt < DEDUP_SALTS; salt++) {
        uint64_t seq = 0;
        if (salt > 0)
            apply->cid_hash = dedup_hash(user, cid, salt);
        int err = dedup_find(&apply->dedup, conv->id, apply->cid_hash, &conv->dedup_hint, &seq);
        if (err == ERR_NOT_FOUND)
            return 0;
        Loquat__Record *record = NULL;
        if (err == 0)
            err = state_record(apply, conv, seq, &apply->arena, &record);
        if (err == ERR_NOT_FOUND) { /* the record was removed by retention; the answer stands */
            *found = true;
            apply->result->dup = true;
            apply->result->seq = seq;
            return 0;
        }
        if (err != 0)
            return err;
        if (!is_answer(record, command))
            continue;
        *found = true;
        if (!record->erased && !record->stripped && !same(record, command))
            return state_refuse(apply, ERR_CONFLICT, "this cid was used for something else");
        answer_again(apply, record, seq);
        return 0;
    }
    *found = true;
    return state_refuse(apply, ERR_CONFLICT, "choose another cid");
}

/* Whom the other one of a direct conversation has blocked does nothing there but take back. */
static bool is_blocked(const struct conv *conv, const Loquat__Command *command)
{
    const Loquat__ConvHeader *header = conv->header;
    if (header->blocked == 0 || command->admin || command->op == LOQUAT__OP__OP_DELETE)
        return false;
    uint32_t by_other = strcmp(header->user_a, command->user) == 0 ? BLOCKED_BY_B : BLOCKED_BY_A;
    return (header->blocked & by_other) != 0;
}

int apply_begin(struct apply *apply, const Loquat__Command *command,
                bool (*same)(const Loquat__Record *, const Loquat__Command *), struct conv **conv,
                struct member **member)
{
    int err = apply_find(apply, command, conv, member);
    bool found = false;
    if (err == 0 && *conv != NULL)
        err = apply_first_answer(apply, *conv, command, same, &found);
    if (err == 0 && *conv != NULL && !found && is_blocked(*conv, command)) {
        (void)state_refuse(apply, ERR_FORBIDDEN, "you can't write to this user");
        found = true;
    }
    if (found)
        *conv = NULL;
    return err;
}

/* What runs a command, and from which version of entries on: programs that do not know it refuse it
 * in older ones, so all must. */
static const struct {
    int (*run)(struct apply *apply, const Loquat__Command *command);
    unsigned version;
} OPS[] = {
    [LOQUAT__OP__OP_OPEN] = {apply_op_open, ENTRY_VERSION_OLDEST},
    [LOQUAT__OP__OP_SEND] = {apply_op_send, ENTRY_VERSION_OLDEST},
    [LOQUAT__OP__OP_EDIT] = {apply_op_edit, ENTRY_VERSION_OLDEST},
    [LOQUAT__OP__OP_DELETE] = {apply_op_delete, ENTRY_VERSION_OLDEST},
    [LOQUAT__OP__OP_MEMBER] = {apply_op_member, ENTRY_VERSION_OLDEST},
    [LOQUAT__OP__OP_LEAVE] = {apply_op_leave, ENTRY_VERSION_OLDEST},
    [LOQUAT__OP__OP_MARK] = {apply_op_mark, ENTRY_VERSION_OLDEST},
    [LOQUAT__OP__OP_RETAIN] = {apply_op_retain, ENTRY_VERSION_OLDEST},
    [LOQUAT__OP__OP_USER_EFFECT] = {apply_op_user_effect, ENTRY_VERSION_OLDEST},
    [LOQUAT__OP__OP_OUT_DONE] = {apply_op_out_done, ENTRY_VERSION_OLDEST},
    [LOQUAT__OP__OP_REACT] = {apply_op_react, ENTRY_VERSION_CHAT},
    [LOQUAT__OP__OP_PIN] = {apply_op_pin, ENTRY_VERSION_CHAT},
    [LOQUAT__OP__OP_META] = {apply_op_meta, ENTRY_VERSION_CHAT},
    [LOQUAT__OP__OP_PREFS] = {apply_op_prefs, ENTRY_VERSION_CHAT},
    [LOQUAT__OP__OP_HIDE] = {apply_op_hide, ENTRY_VERSION_SOCIAL},
    [LOQUAT__OP__OP_INVITE] = {apply_op_invite, ENTRY_VERSION_SOCIAL},
    [LOQUAT__OP__OP_UNINVITE] = {apply_op_uninvite, ENTRY_VERSION_SOCIAL},
    [LOQUAT__OP__OP_JOIN] = {apply_op_join, ENTRY_VERSION_SOCIAL},
    [LOQUAT__OP__OP_THREAD_MARK] = {apply_op_thread_mark, ENTRY_VERSION_SOCIAL},
    [LOQUAT__OP__OP_BLOCK] = {apply_op_block, ENTRY_VERSION_SOCIAL},
    [LOQUAT__OP__OP_PRIVACY] = {apply_op_privacy, ENTRY_VERSION_SOCIAL},
    [LOQUAT__OP__OP_BLOCKING] = {apply_op_blocking, ENTRY_VERSION_SOCIAL},
    [LOQUAT__OP__OP_USER_NOTE] = {apply_op_user_note, ENTRY_VERSION_SOCIAL},
    [LOQUAT__OP__OP_CONSUMER] = {apply_op_consumer, ENTRY_VERSION_JOBS},
    [LOQUAT__OP__OP_WORKER] = {apply_op_worker, ENTRY_VERSION_JOBS},
    [LOQUAT__OP__OP_CURSOR] = {apply_op_cursor, ENTRY_VERSION_JOBS},
    [LOQUAT__OP__OP_CONSUMER_DROP] = {apply_op_consumer_drop, ENTRY_VERSION_JOBS},
};

static int dispatch(struct apply *apply, const Loquat__Command *command)
{
    uint32_t op = command->op;
    if (op >= sizeof OPS / sizeof *OPS || OPS[op].run == NULL)
        return state_refuse(apply, ERR_BAD_REQUEST, "unknown command");
    if (OPS[op].version > apply->entry_version)
        return state_refuse_old(apply);
    return OPS[op].run(apply, command);
}

static bool command_valid(const Loquat__Command *command)
{
    return strlen(command->user) <= USER_MAX && strlen(command->who) <= USER_MAX &&
           strlen(command->with) <= USER_MAX && strlen(command->cid) <= CID_MAX &&
           strlen(command->draft) <= DRAFT_MAX && strlen(command->token) <= INVITE_TOKEN_MAX &&
           strlen(command->conv) <= CONV_ID_MAX && strlen(command->consumer) <= USER_MAX &&
           strlen(command->worker) <= USER_MAX;
}

/* Those of one entry. What their cids are looked for in is fetched from memory meanwhile. */
struct opened {
    Loquat__Command *command; /* NULL: malformed */
    struct conv_id conv_id;
    uint64_t cid_hash;
};
struct opened_list {
    struct opened *items;
    size_t count;
};

static int open_commands(struct apply *apply, struct entry_reader reader, struct opened_list *list)
{
    struct entry_reader counted = reader;
    struct span bytes;
    int more;
    list->count = 0;
    while ((more = entry_next(&counted, &bytes)) > 0)
        list->count++;
    if (more < 0)
        return more;
    list->items = arena_alloc(&apply->commands, list->count * sizeof *list->items);
    for (struct opened *at = list->items; entry_next(&reader, &bytes) > 0; at++) {
        *at = (struct opened){.command = command_unpack(bytes, &apply->commands)};
        if (at->command != NULL && !command_valid(at->command))
            at->command = NULL;
        if (at->command == NULL)
            continue;
        at->conv_id = conv_id_of(span_str(at->command->conv));
        if (at->command->cid[0] == 0)
            continue;
        at->cid_hash = dedup_hash(span_str(at->command->user), span_str(at->command->cid), 0);
        dedup_prefetch(&apply->dedup, at->conv_id, at->cid_hash);
    }
    return 0;
}

static int apply_command(struct apply *apply, const struct opened *opened)
{
    *APPLIED_PUSH(apply->out, result) = (struct apply_result){0};
    apply->result = &apply->out->results[apply->out->result_count - 1];
    apply->conv_id = opened->conv_id;
    apply->cid_hash = opened->cid_hash;
    if (opened->command == NULL)
        return state_refuse(apply, ERR_BAD_REQUEST, "malformed command");
    int err = dispatch(apply, opened->command);
    arena_reset(&apply->arena);
    return err;
}

/* ---- sealing: what is kept in memory per message goes to disk by generations, so that a restart
 * has to look only at the records since. ---- */

static void save_members(struct apply *apply)
{
    if (apply->dirty_members == 0)
        return;
    for (struct map_slot *s = map_each(&apply->members, NULL); s; s = map_each(&apply->members, s))
        if (((struct member *)s->val.p)->dirty)
            state_member_save(apply, s->val.p);
}

/* A part of it after each entry; faster than entries can fill the next generation. */
static void seal_some(struct apply *apply)
{
    if (dedup_full(&apply->dedup)) {
        dedup_turn(&apply->dedup);
        save_members(apply);
        apply->sealing_index = apply->index;
    }
    size_t max = apply->out->result_count * SEAL_ROWS_PER_COMMAND + SEAL_ROWS_MIN;
    if (dedup_seal(&apply->dedup, apply->batch, max))
        apply->seal_index = apply->sealing_index;
    if (apply->caches_full) {
        save_members(apply);
        apply->out->must_write = true;
    }
}

void apply_seal(struct apply *apply, struct kv_batch *batch)
{
    ASSERT(apply->overlay.count == 0);
    apply->batch = batch;
    dedup_seal_all(&apply->dedup, batch);
    save_members(apply);
    apply->seal_index = apply->index;
    put_apl(apply, batch);
}

struct apply_sizes apply_sizes(const struct apply *apply)
{
    return (struct apply_sizes){.convs = apply->convs.count,
                                .members = apply->members.count,
                                .cids = dedup_recent(&apply->dedup),
                                .filter_bytes = dedup_filter_bytes(&apply->dedup)};
}

static void feed_close(struct apply *apply)
{
    if (apply->feed_count == 0)
        return;
    char *p = buf_grow(&apply->feed, 16);
    put_be64(p, apply->feed_id.hi);
    put_be64(p + 8, apply->feed_id.lo);
    buf_add_varint(&apply->feed, apply->feed_first);
    buf_add_varint(&apply->feed, apply->feed_count);
    struct key key = key_number(apply->partition, apply->entry_index);
    kv_put(apply->batch, KV_FEED, key_span(&key), buf_span(&apply->feed));
    apply->feed.n = 0;
    apply->feed_count = 0;
}

int apply_entry(struct apply *apply, uint64_t index, uint64_t term, struct span entry,
                struct kv_batch *batch, struct applied *applied)
{
    ASSERT(index == apply->index + 1);
    ASSERT(!applied->must_write);
    struct entry_reader reader;
    int err = entry_open(&reader, entry);
    if (err != 0)
        return err;
    apply->batch = batch;
    apply->out = applied;
    apply->now_ms = reader.time_ms;
    apply->entry_version = reader.version;
    apply->entry_index = index;
    apply->out_counter = 0;
    apply->feed_total = 0;
    if (dedup_cold(&apply->dedup)) /* as long as it is, a new cid may cost more than this does */
        (void)apply_warm(apply);
    struct opened_list commands;
    err = open_commands(apply, reader, &commands);
    for (size_t i = 0; err == 0 && i < commands.count; i++)
        err = apply_command(apply, &commands.items[i]);
    arena_reset(&apply->commands);
    if (err != 0)
        return err;
    feed_close(apply);
    apply->index = index;
    apply->term = term;
    seal_some(apply);
    put_apl(apply, batch);
    return 0;
}

void apply_nothing(struct apply *apply, uint64_t index, uint64_t term, struct kv_batch *batch)
{
    ASSERT(index > apply->index);
    apply->index = index;
    apply->term = term;
    put_apl(apply, batch);
}

void apply_written(struct apply *apply)
{
    if (apply->overlay.count > 0) {
        map_clear(&apply->overlay);
        arena_reset(&apply->overlay_arena);
    }
    dedup_forget(&apply->dedup);
    if (apply->caches_full)
        state_caches_trim(apply, false);
}
