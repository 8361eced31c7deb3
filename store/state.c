#include "store/state.h"

#include <stdlib.h>
#include <xxhash.h>

#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/record.h"
#include "store/base/wire.h"

/* ---- rows of the batch being built ---- */

struct overlay_row {
    const char *bytes; /* NULL: deleted */
    size_t size;
};

static struct map_key overlay_key(enum kv_cf cf, struct span key)
{
    XXH128_hash_t hash = XXH3_128bits_withSeed(key.p, key.n, (uint64_t)cf + 1);
    return (struct map_key){hash.high64, hash.low64};
}

static void overlay_set(struct apply *apply, enum kv_cf cf, struct span key, struct span value)
{
    struct overlay_row *row = arena_alloc(&apply->overlay_arena, sizeof *row);
    *row = (struct overlay_row){value.p, value.n};
    bool fresh;
    map_put(&apply->overlay, overlay_key(cf, key), &fresh)->p = row;
}

int state_get(struct apply *apply, enum kv_cf cf, struct span key, struct buf *value)
{
    if (apply->overlay.count > 0) {
        union map_val *val = map_get(&apply->overlay, overlay_key(cf, key));
        if (val != NULL) {
            const struct overlay_row *row = val->p;
            value->n = 0;
            if (row->bytes == NULL)
                return ERR_NOT_FOUND;
            buf_add(value, row->bytes, row->size);
            return 0;
        }
    }
    return kv_get(apply->kv, cf, key, value);
}

void state_put_kept(struct apply *apply, enum kv_cf cf, struct span key, struct span value)
{
    kv_put(apply->batch, cf, key, value);
    overlay_set(apply, cf, key, value);
}

void state_put(struct apply *apply, enum kv_cf cf, struct span key, struct span value)
{
    const char *kept = arena_copy(&apply->overlay_arena, value.p, value.n);
    state_put_kept(apply, cf, key, span_of(kept, value.n));
}

void state_delete(struct apply *apply, enum kv_cf cf, struct span key)
{
    kv_delete(apply->batch, cf, key);
    overlay_set(apply, cf, key, (struct span){0});
}

int state_get_or_empty(struct apply *apply, enum kv_cf cf, struct key key)
{
    int err = state_get(apply, cf, key_span(&key), &apply->value);
    if (err == ERR_NOT_FOUND)
        apply->value.n = 0;
    return err == ERR_NOT_FOUND ? 0 : err;
}

void state_put_message(struct apply *apply, enum kv_cf cf, struct key key,
                       const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    apply->scratch.n = 0;
    protobuf_c_message_pack(message, (uint8_t *)buf_grow(&apply->scratch, size));
    state_put(apply, cf, key_span(&key), buf_span(&apply->scratch));
}

/* ---- conversations ---- */

static void conv_free(struct conv *conv)
{
    loquat__conv_header__free_unpacked(conv->header, NULL);
    free(conv);
}

static void member_free(struct member *member)
{
    loquat__member__free_unpacked(member->row, NULL);
    free(member);
}

void state_caches_trim(struct apply *apply, bool all)
{
    for (struct map_slot *s = map_each(&apply->convs, NULL); s; s = map_each(&apply->convs, s))
        conv_free(s->val.p);
    map_clear(&apply->convs);
    struct map kept;
    map_init(&kept);
    for (struct map_slot *s = map_each(&apply->members, NULL); s;
         s = map_each(&apply->members, s)) {
        struct member *member = s->val.p;
        bool fresh;
        if (member->dirty && !all)
            map_put(&kept, s->key, &fresh)->p = member;
        else
            member_free(member);
    }
    map_close(&apply->members);
    apply->members = kept;
    apply->caches_full = false;
}

/* They are emptied between batches. */
static void caches_full(struct apply *apply, enum bound which)
{
    if (!apply->caches_full)
        bound_hit(which);
    apply->caches_full = true;
}

static struct conv *conv_insert(struct apply *apply, struct conv_id id, Loquat__ConvHeader *header)
{
    struct conv *conv = xcalloc(1, sizeof *conv);
    conv->id = id;
    conv->header = header;
    bool fresh;
    union map_val *val = map_put(&apply->convs, (struct map_key){id.hi, id.lo}, &fresh);
    ASSERT(fresh);
    val->p = conv;
    if (apply->convs.count >= CONV_CACHE_MAX)
        caches_full(apply, BOUND_CONV_CACHE);
    return conv;
}

/* Head and ordinal stand in the last record; where all were trimmed, in the header. */
static int load_head(struct apply *apply, struct conv *conv, bool user_log)
{
    uint32_t p = apply->partition;
    struct key from = user_log ? key_user_log(p, conv->id, 0) : key_seq(p, conv->id, 0);
    struct key until =
        user_log ? key_user_log(p, conv->id, UINT64_MAX) : key_seq(p, conv->id, UINT64_MAX);
    conv->head = conv->header->head;
    conv->n = conv->header->ordinal;
    struct kv_iter iter;
    kv_iter_open(&iter, apply->kv, NULL, user_log ? KV_USER : KV_LOG, key_span(&from),
                 key_span(&until));
    kv_iter_last(&iter);
    int err = 0;
    if (kv_iter_valid(&iter)) {
        struct span key = kv_iter_key(&iter);
        uint64_t seq = get_be64(key.p + key.n - 8);
        Loquat__Record *record = NULL;
        err = record_decode(kv_iter_value(&iter), NULL, &record);
        if (err == 0 && seq >= conv->head) {
            conv->head = seq;
            conv->n = record_n(record, seq);
        }
        if (record != NULL)
            loquat__record__free_unpacked(record, NULL);
    } else {
        err = kv_iter_error(&iter);
    }
    kv_iter_close(&iter);
    return err;
}

static void conv_drop(struct apply *apply, struct conv *conv)
{
    map_remove(&apply->convs, (struct map_key){conv->id.hi, conv->id.lo});
    conv_free(conv);
}

int state_conv_by_id(struct apply *apply, struct conv_id id, struct conv **out)
{
    union map_val *val = map_get(&apply->convs, (struct map_key){id.hi, id.lo});
    if (val != NULL) {
        *out = val->p;
        return 0;
    }
    struct key key = key_header(apply->partition, id);
    int err = kv_get(apply->kv, KV_CONV, key_span(&key), &apply->value);
    if (err != 0)
        return err;
    Loquat__ConvHeader *header =
        loquat__conv_header__unpack(NULL, apply->value.n, (const uint8_t *)apply->value.p);
    if (header == NULL)
        return ERR_CORRUPT;
    struct conv *conv = conv_insert(apply, id, header);
    err = load_head(apply, conv, false);
    if (err != 0)
        conv_drop(apply, conv);
    else
        *out = conv;
    return err;
}

int state_conv_named(struct apply *apply, struct conv_id id, struct span name, struct conv **conv)
{
    int err = state_conv_by_id(apply, id, conv);
    if (err == 0 && !span_is(name, (*conv)->header->id))
        return ERR_CONFLICT;
    return err;
}

int state_conv(struct apply *apply, struct span name, struct conv **conv)
{
    return state_conv_named(apply, conv_id_of(name), name, conv);
}

static Loquat__ConvHeader *header_new(struct span name, uint32_t kind)
{
    Loquat__ConvHeader *header = xmalloc(sizeof *header);
    loquat__conv_header__init(header);
    char *id = xmalloc(name.n + 1);
    memcpy(id, name.p, name.n);
    id[name.n] = 0;
    header->id = id;
    header->kind = kind;
    return header;
}

struct conv *state_conv_new(struct apply *apply, struct span name, uint32_t kind)
{
    return conv_insert(apply, conv_id_of(name), header_new(name, kind));
}

int state_user_log(struct apply *apply, struct span user, struct conv **out)
{
    struct conv_id id = user_log_id(user);
    union map_val *val = map_get(&apply->convs, (struct map_key){id.hi, id.lo});
    if (val != NULL) {
        *out = val->p;
        return 0;
    }
    struct conv *conv = conv_insert(apply, id, header_new(user, LOQUAT__CONV_KIND__CONV_USER));
    int err = load_head(apply, conv, true);
    if (err != 0)
        conv_drop(apply, conv);
    else
        *out = conv;
    return err;
}

void state_conv_save(struct apply *apply, struct conv *conv)
{
    ASSERT(conv->header->kind != LOQUAT__CONV_KIND__CONV_USER);
    conv->header->head = conv->head;
    conv->header->ordinal = conv->n;
    size_t size = loquat__conv_header__get_packed_size(conv->header);
    apply->scratch.n = 0;
    loquat__conv_header__pack(conv->header, (uint8_t *)buf_grow(&apply->scratch, size));
    struct key key = key_header(apply->partition, conv->id);
    kv_put(apply->batch, KV_CONV, key_span(&key), buf_span(&apply->scratch));
}

/* ---- members ---- */

static struct map_key member_key(struct conv_id id, struct span user)
{
    char text[16 + USER_MAX];
    ASSERT(user.n <= USER_MAX);
    put_le64(text, id.hi);
    put_le64(text + 8, id.lo);
    if (user.n > 0)
        memcpy(text + 16, user.p, user.n);
    XXH128_hash_t hash = XXH3_128bits(text, 16 + user.n);
    return (struct map_key){hash.high64, hash.low64};
}

static struct member *member_insert(struct apply *apply, struct conv *conv, Loquat__Member *row)
{
    struct member *member = xcalloc(1, sizeof *member);
    member->conv = conv->id;
    member->row = row;
    bool fresh;
    union map_val *val =
        map_put(&apply->members, member_key(conv->id, span_str(row->user)), &fresh);
    ASSERT(fresh);
    val->p = member;
    if (apply->members.count >= MEMBER_CACHE_MAX)
        caches_full(apply, BOUND_MEMBER_CACHE);
    return member;
}

int state_member(struct apply *apply, struct conv *conv, struct span user, struct member **out)
{
    union map_val *val = map_get(&apply->members, member_key(conv->id, user));
    if (val != NULL) {
        *out = val->p;
        return 0;
    }
    struct key key = key_member(apply->partition, conv->id, user);
    int err = kv_get(apply->kv, KV_CONV, key_span(&key), &apply->value);
    if (err != 0)
        return err;
    Loquat__Member *row =
        loquat__member__unpack(NULL, apply->value.n, (const uint8_t *)apply->value.p);
    if (row == NULL || !span_is(user, row->user)) {
        if (row != NULL)
            loquat__member__free_unpacked(row, NULL);
        return ERR_CORRUPT;
    }
    *out = member_insert(apply, conv, row);
    return 0;
}

struct member *state_member_new(struct apply *apply, struct conv *conv, struct span user)
{
    Loquat__Member *row = xmalloc(sizeof *row);
    loquat__member__init(row);
    row->user = xmalloc(user.n + 1);
    memcpy(row->user, user.p, user.n);
    row->user[user.n] = 0;
    return member_insert(apply, conv, row);
}

void state_member_save(struct apply *apply, struct member *member)
{
    size_t size = loquat__member__get_packed_size(member->row);
    apply->scratch.n = 0;
    loquat__member__pack(member->row, (uint8_t *)buf_grow(&apply->scratch, size));
    struct key key = key_member(apply->partition, member->conv, span_str(member->row->user));
    kv_put(apply->batch, KV_CONV, key_span(&key), buf_span(&apply->scratch));
    if (member->dirty) {
        member->dirty = false;
        apply->dirty_members--;
    }
}

void state_member_wrote(struct apply *apply, struct member *member, uint64_t seq, uint64_t n)
{
    member->row->read = seq;
    member->row->read_n = n;
    if (member->row->delivered < seq)
        member->row->delivered = seq;
    if (!member->dirty) {
        member->dirty = true;
        apply->dirty_members++;
    }
}

bool state_member_active(const struct member *member)
{
    return member->row->role != LOQUAT__ROLE__ROLE_NONE;
}

/* ---- the log ---- */

static void feed_note(struct apply *apply, struct conv_id id, uint64_t seq)
{
    apply->feed_total++;
    if (apply->feed_count > 0 && conv_id_eq(apply->feed_id, id) &&
        seq == apply->feed_first + apply->feed_count) {
        apply->feed_count++;
        return;
    }
    if (apply->feed_count > 0) {
        char *p = buf_grow(&apply->feed, 16);
        put_be64(p, apply->feed_id.hi);
        put_be64(p + 8, apply->feed_id.lo);
        buf_add_varint(&apply->feed, apply->feed_first);
        buf_add_varint(&apply->feed, apply->feed_count);
    }
    apply->feed_id = id;
    apply->feed_first = seq;
    apply->feed_count = 1;
}

static void give_mid(struct apply *apply, Loquat__Record *record)
{
    uint64_t now = apply->now_ms > MID_EPOCH_MS ? apply->now_ms : MID_EPOCH_MS;
    if (now > apply->mid_ms) {
        apply->mid_ms = now;
        apply->mid_counter = 0;
    } else if (++apply->mid_counter == 4096) {
        apply->mid_ms++;
        apply->mid_counter = 0;
    }
    record->mid_off =
        ((int64_t)apply->mid_ms - (int64_t)record->ts) * 4096 + (int64_t)apply->mid_counter;
}

uint64_t state_append(struct apply *apply, struct conv *conv, Loquat__Record *record,
                      struct apply_result *result)
{
    bool user_log = conv->header->kind == LOQUAT__CONV_KIND__CONV_USER;
    if (record->ts == 0)
        record->ts = apply->now_ms;
    give_mid(apply, record);
    uint64_t seq = ++conv->head;
    if (kind_is_message(record->kind)) {
        conv->n++;
        conv->newest_seq = seq;
        conv->newest_ms = record->ts;
    }
    record->gap = seq - conv->n;

    apply->scratch.n = 0;
    record_encode(record, &apply->scratch);
    size_t size = apply->scratch.n;
    char *bytes = arena_copy(&apply->out->arena, apply->scratch.p, size);
    struct key key = user_log ? key_user_log(apply->partition, conv->id, seq)
                              : key_seq(apply->partition, conv->id, seq);
    state_put_kept(apply, user_log ? KV_USER : KV_LOG, key_span(&key), span_of(bytes, size));
    *APPLIED_PUSH(apply->out, record) = (struct apply_record){
        .id = conv->id,
        .conv = span_of(arena_copy(&apply->out->arena, conv->header->id, strlen(conv->header->id)),
                        strlen(conv->header->id)),
        .user_log = user_log,
        .seq = seq,
        .bytes = span_of(bytes, size),
    };
    if (!user_log) {
        feed_note(apply, conv->id, seq);
        if (record->cid[0] != 0)
            dedup_add(&apply->dedup, conv->id, apply->cid_hash, seq);
    }
    if (result != NULL) {
        result->seq = seq;
        result->n = conv->n;
        result->ts = record->ts;
        result->mid = record_mid(record->ts, record->mid_off, apply->partition);
    }
    return seq;
}

uint64_t state_append_body(struct apply *apply, struct conv *conv, const Loquat__Command *command,
                           uint32_t kind, struct buf *body)
{
    Loquat__Record record = LOQUAT__RECORD__INIT;
    record.kind = kind;
    record.from = command->user;
    record.cid = command->cid;
    record.body = (ProtobufCBinaryData){body->n, (uint8_t *)body->p};
    uint64_t seq = state_append(apply, conv, &record, apply->result);
    buf_close(body);
    return seq;
}

bool state_same_body(const Loquat__Record *record, uint32_t kind, struct buf *body)
{
    bool same = record->kind == kind &&
                span_eq(buf_span(body), span_of((const char *)record->body.data, record->body.len));
    buf_close(body);
    return same;
}

int state_record(struct apply *apply, const struct conv *conv, uint64_t seq, struct arena *arena,
                 Loquat__Record **record)
{
    struct key key = key_seq(apply->partition, conv->id, seq);
    int err = state_get(apply, KV_LOG, key_span(&key), &apply->value);
    if (err != 0)
        return err;
    return record_decode(buf_span(&apply->value), &arena->allocator, record);
}

void state_record_rewrite(struct apply *apply, const struct conv *conv, uint64_t seq,
                          const Loquat__Record *record)
{
    apply->scratch.n = 0;
    record_encode(record, &apply->scratch);
    struct key key = key_seq(apply->partition, conv->id, seq);
    state_put(apply, KV_LOG, key_span(&key), buf_span(&apply->scratch));
}

int state_fold(struct apply *apply, const struct conv *conv, uint64_t seq, struct arena *arena,
               Loquat__Fold **fold)
{
    int err = state_get_or_empty(apply, KV_FOLD, key_seq(apply->partition, conv->id, seq));
    if (err != 0)
        return err;
    *fold =
        loquat__fold__unpack(&arena->allocator, apply->value.n, (const uint8_t *)apply->value.p);
    return *fold != NULL ? 0 : ERR_CORRUPT;
}

void state_fold_save(struct apply *apply, const struct conv *conv, uint64_t seq,
                     const Loquat__Fold *fold)
{
    state_put_message(apply, KV_FOLD, key_seq(apply->partition, conv->id, seq), &fold->base);
}

/* ---- answers and effects ---- */

void state_text_set(char **field, const char *text)
{
    if (*field != NULL && *field != protobuf_c_empty_string)
        free(*field);
    *field = xstrdup(text);
}

bool state_bytes_same(ProtobufCBinaryData a, ProtobufCBinaryData b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

int state_refuse(struct apply *apply, int err, const char *msg)
{
    apply->result->err = err;
    apply->result->msg = msg;
    return 0;
}

int state_refuse_old(struct apply *apply)
{
    return state_refuse(apply, ERR_AGAIN,
                        "not before all nodes of the cluster have been brought up to date");
}

void state_out(struct apply *apply, uint32_t partition, const Loquat__Command *command)
{
    ASSERT(apply->out_counter < OUTS_PER_ENTRY_MAX);
    struct applied *out = apply->out;
    apply->scratch.n = 0;
    command_pack(command, &apply->scratch);
    size_t size = apply->scratch.n;
    char *bytes = arena_copy(&out->arena, apply->scratch.p, size);
    uint64_t number = apply->entry_index << OUT_BITS | apply->out_counter++;
    char head[2];
    put_be16(head, (uint16_t)partition);
    struct key key = key_number(apply->partition, number);
    kv_put2(apply->batch, KV_OUT, key_span(&key), span_of(head, 2), span_of(bytes, size));
    *APPLIED_PUSH(out, out) = (struct apply_out){
        .number = number,
        .partition = partition,
        .result = (uint32_t)(apply->result - out->results),
        .command = span_of(bytes, size),
    };
    apply->result->outs++;
}
