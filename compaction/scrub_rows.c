/* compaction/scrub_rows.c: what stands beside the log: members, folds, cids, lists, feeds. */
#include "compaction/scrub_walk.h"
#include "store/apply.h"
#include "store/base/err.h"
#include "store/base/record.h"
#include "store/dedup.h"
#include "store/feedlog.h"

static unsigned long long num(uint64_t number)
{
    return number;
}

/* ---- effects that are still on their way to a user's list ---- */

static bool row_owes(struct scrub *scrub, struct span value, const char *user, const char *conv)
{
    if (value.n < 2)
        return false;
    const Loquat__Command *command =
        loquat__command__unpack(&scrub->arena.allocator, value.n - 2, (const uint8_t *)value.p + 2);
    for (size_t i = 0; command != NULL && i < command->n_effects; i++)
        if (strcmp(command->effects[i]->user, user) == 0 &&
            strcmp(command->effects[i]->conv, conv) == 0)
            return true;
    return false;
}

static bool owed(struct scrub *scrub, uint32_t partition, const char *user, const char *conv)
{
    struct key from = key_partition(partition), until = key_partition(partition + 1);
    struct kv_iter iter;
    bool found = false;
    kv_iter_open_scan(&iter, scrub->keeper->kv, &scrub->view, KV_OUT, key_span(&from),
                      key_span(&until));
    for (kv_iter_first(&iter); kv_iter_valid(&iter) && !found; kv_iter_next(&iter))
        found = row_owes(scrub, kv_iter_value(&iter), user, conv);
    kv_iter_close(&iter);
    return found;
}

/* ---- members ---- */

static void check_list(struct scrub *scrub, const struct scrub_conv *conv, const char *user)
{
    struct conv_id log = user_log_id(span_str(user));
    uint32_t partition = partition_of(log, scrub->keeper->partitions);
    int err = scrub_get(scrub, KV_USER, key_user_conv(partition, log, conv->id));
    const Loquat__UserConv *row = NULL;
    if (err == 0)
        row = loquat__user_conv__unpack(&scrub->arena.allocator, scrub->value.n,
                                        (const uint8_t *)scrub->value.p);
    if ((err == ERR_NOT_FOUND || (row != NULL && row->gone)) &&
        !owed(scrub, scrub->partition, user, conv->header->id))
        scrub_damage(scrub, KV_USER, conv->header->id, 0, "it is not in the list of its member %s",
                     user);
}

static void check_marks(struct scrub *scrub, const struct scrub_conv *conv,
                        const Loquat__Member *member)
{
    const char *id = conv->header->id;
    if (member->read > conv->head || member->delivered > conv->head ||
        member->joined_seq > conv->head) {
        scrub_damage(scrub, KV_CONV, id, member->read, "a mark of member %s is above the head %llu",
                     member->user, num(conv->head));
        return;
    }
    Loquat__Record *record = NULL;
    if (member->read < conv->floor || scrub_record(scrub, conv->id, member->read, &record) != 0)
        return; /* nothing to compare with; what is missing was noted */
    if (record_n(record, member->read) != member->read_n)
        scrub_damage(scrub, KV_CONV, id, member->read,
                     "member %s has read %llu messages by the mark, %llu by the record",
                     member->user, num(member->read_n), num(record_n(record, member->read)));
}

int scrub_members(struct scrub *scrub, const struct scrub_conv *conv)
{
    const Loquat__ConvHeader *header = conv->header;
    struct key from = key_member(scrub->partition, conv->id, (struct span){0});
    struct key until = from;
    until.p[until.n - 1]++;
    struct kv_iter iter;
    kv_iter_open_scan(&iter, scrub->keeper->kv, &scrub->view, KV_CONV, key_span(&from),
                      key_span(&until));
    uint64_t members = 0, owners = 0;
    int err = 0;
    for (kv_iter_first(&iter); err == 0 && kv_iter_valid(&iter); kv_iter_next(&iter)) {
        struct span key = kv_iter_key(&iter), value = kv_iter_value(&iter);
        struct span user = span_of(key.p + from.n, key.n - from.n);
        const Loquat__Member *member =
            loquat__member__unpack(&scrub->arena.allocator, value.n, (const uint8_t *)value.p);
        if (member == NULL || !span_is(user, member->user)) {
            scrub_damage(scrub, KV_CONV, header->id, 0, "the row of member %.*s can't be read",
                         (int)user.n, user.p);
        } else {
            check_marks(scrub, conv, member);
            if (member->role != LOQUAT__ROLE__ROLE_NONE)
                check_list(scrub, conv, member->user);
            members += member->role != LOQUAT__ROLE__ROLE_NONE;
            owners += member->role == LOQUAT__ROLE__ROLE_OWNER;
        }
        arena_reset(&scrub->arena);
        err = scrub_tick(scrub);
    }
    scrub_ended(scrub, KV_CONV, header->id, &iter);
    kv_iter_close(&iter);
    if (err == 0 && (members != header->members || owners != header->owners))
        scrub_damage(scrub, KV_CONV, header->id, 0,
                     "the header counts %llu members and %llu owners, there are %llu and %llu",
                     num(header->members), num(header->owners), num(members), num(owners));
    return err;
}

/* ---- reactions and mentions ---- */

/* What a user has on, the fold of the message counts. */
static void check_reactions(struct scrub *scrub, const struct scrub_conv *conv, struct span key,
                            struct span value)
{
    const char *id = conv->header->id;
    size_t head = KEY_CONV_SIZE + 1 + 8;
    uint64_t seq = key.n > head ? get_be64(key.p + head - 8) : 0;
    const Loquat__UserReactions *row =
        loquat__user_reactions__unpack(&scrub->arena.allocator, value.n, (const uint8_t *)value.p);
    if (row == NULL || seq == 0 || row->n_emojis == 0) {
        scrub_damage(scrub, KV_CONV, id, seq, "a row of reactions can't be read");
        return;
    }
    if (seq < conv->floor)
        return; /* waits for a trim */
    const Loquat__Fold *fold = NULL;
    if (seq > conv->head)
        scrub_damage(scrub, KV_CONV, id, seq, "a row of reactions belongs to no record");
    else if (scrub_get(scrub, KV_FOLD, key_seq(scrub->partition, conv->id, seq)) == 0)
        fold = loquat__fold__unpack(&scrub->arena.allocator, scrub->value.n,
                                    (const uint8_t *)scrub->value.p);
    bool erased = fold != NULL && fold->erased; /* its rows wait for a trim */
    for (size_t i = 0; seq <= conv->head && !erased && i < row->n_emojis; i++) {
        size_t at = 0, counts = fold != NULL ? fold->n_reactions : 0;
        while (at < counts && strcmp(fold->reactions[at]->emoji, row->emojis[i]) != 0)
            at++;
        if (at == counts)
            scrub_damage(scrub, KV_CONV, id, seq, "the message counts no %s, but %.*s has it on",
                         row->emojis[i], (int)(key.n - head), key.p + head);
    }
}

static void check_mention(struct scrub *scrub, const struct scrub_conv *conv, struct span key,
                          struct span value)
{
    const char *id = conv->header->id;
    size_t head = KEY_CONV_SIZE + 1, tail = 9;
    if (key.n < head + tail || value.n != MENTION_SIZE) {
        scrub_damage(scrub, KV_CONV, id, 0, "a row of mentions can't be read");
        return;
    }
    uint64_t seq = get_be64(key.p + key.n - 8);
    struct span user = span_of(key.p + head, key.n - head - tail);
    Loquat__Record *record = NULL;
    if (seq > conv->head)
        scrub_damage(scrub, KV_CONV, id, seq, "a mention belongs to no record");
    if (seq < conv->floor || seq > conv->head || scrub_record(scrub, conv->id, seq, &record) != 0 ||
        record->stripped)
        return;
    bool named = user.n == 0 && record->mention_all;
    for (size_t i = 0; i < record->n_mentions && !named; i++)
        named = span_is(user, record->mentions[i]);
    if (!named)
        scrub_damage(scrub, KV_CONV, id, seq, "the message does not mention %.*s", (int)user.n,
                     user.p);
}

/* ---- hidden ones, threads, blocks ---- */

/* The sequence at the end of a row that has a user in front of it; 0: it has none. */
static uint64_t seq_behind_user(struct span key)
{
    size_t head = KEY_CONV_SIZE + 1, tail = 9;
    return key.n > head + tail && key.p[key.n - tail] == 0 ? get_be64(key.p + key.n - 8) : 0;
}

static bool is_message(struct scrub *scrub, const struct scrub_conv *conv, uint64_t seq)
{
    Loquat__Record *record = NULL;
    if (seq == 0 || seq > conv->head)
        return false;
    if (seq < conv->floor || scrub_record(scrub, conv->id, seq, &record) != 0)
        return true; /* waits for a trim, or was noted where the log was read */
    return kind_is_message(record->kind);
}

static void check_threaded(struct scrub *scrub, const struct scrub_conv *conv, uint64_t root,
                           uint64_t seq)
{
    Loquat__Record *record = NULL;
    const char *id = conv->header->id;
    if (seq <= root || seq > conv->head || !is_message(scrub, conv, root))
        scrub_damage(scrub, KV_CONV, id, seq, "a row of a thread belongs to no thread");
    else if (root >= conv->floor && scrub_record(scrub, conv->id, seq, &record) == 0 &&
             !record->erased && record->thread != root)
        scrub_damage(scrub, KV_CONV, id, seq, "the message is not of thread %llu", num(root));
}

static void check_rest(struct scrub *scrub, const struct scrub_conv *conv, struct span key,
                       struct span value)
{
    const char *id = conv->header->id;
    unsigned tag = (unsigned char)key.p[KEY_CONV_SIZE];
    bool fine = true;
    if (tag == KEY_TAG_BLOCKING)
        fine = loquat__blocking__unpack(&scrub->arena.allocator, value.n,
                                        (const uint8_t *)value.p) != NULL;
    else if (tag == KEY_TAG_HIDDEN)
        fine = value.n == 0 && is_message(scrub, conv, seq_behind_user(key));
    else if (tag == KEY_TAG_PLACE)
        fine = value.n == PLACE_SIZE && is_message(scrub, conv, seq_behind_user(key));
    else if (tag == KEY_TAG_THREAD && key.n == KEY_CONV_SIZE + 17 && value.n == THREAD_SIZE)
        check_threaded(scrub, conv, get_be64(key.p + KEY_CONV_SIZE + 1),
                       get_be64(key.p + KEY_CONV_SIZE + 9));
    else if (tag == KEY_TAG_ACTIVE && key.n == KEY_CONV_SIZE + 9 && value.n == ACTIVE_SIZE)
        check_threaded(scrub, conv, get_le64(value.p), get_be64(key.p + KEY_CONV_SIZE + 1));
    else
        fine = false;
    if (!fine)
        scrub_damage(scrub, KV_CONV, id, 0, "a row of kind %u is damaged", tag);
}

int scrub_beside(struct scrub *scrub, const struct scrub_conv *conv)
{
    struct key from = key_conv(scrub->partition, conv->id), until = from;
    from.p[from.n++] = KEY_TAG_REACTIONS;
    until.p[until.n++] = (char)0xff;
    struct kv_iter iter;
    int err = 0;
    kv_iter_open_scan(&iter, scrub->keeper->kv, &scrub->view, KV_CONV, key_span(&from),
                      key_span(&until));
    for (kv_iter_first(&iter); err == 0 && kv_iter_valid(&iter); kv_iter_next(&iter)) {
        struct span key = kv_iter_key(&iter);
        if (key.p[KEY_CONV_SIZE] == KEY_TAG_REACTIONS)
            check_reactions(scrub, conv, key, kv_iter_value(&iter));
        else if (key.p[KEY_CONV_SIZE] == KEY_TAG_MENTIONS)
            check_mention(scrub, conv, key, kv_iter_value(&iter));
        else
            check_rest(scrub, conv, key, kv_iter_value(&iter));
        arena_reset(&scrub->arena);
        err = scrub_tick(scrub);
    }
    scrub_ended(scrub, KV_CONV, conv->header->id, &iter);
    kv_iter_close(&iter);
    return err;
}

/* ---- folds ---- */

static void check_fold(struct scrub *scrub, const struct scrub_conv *conv, uint64_t seq,
                       struct span value)
{
    const char *id = conv->header->id;
    const Loquat__Fold *fold =
        loquat__fold__unpack(&scrub->arena.allocator, value.n, (const uint8_t *)value.p);
    Loquat__Record *record = NULL;
    if (fold == NULL) {
        scrub_damage(scrub, KV_FOLD, id, seq, "the fold can't be read");
        return;
    }
    if (seq < conv->floor)
        return; /* waits for a trim */
    int err = scrub_record(scrub, conv->id, seq, &record);
    if (err == ERR_NOT_FOUND && seq > conv->head)
        scrub_damage(scrub, KV_FOLD, id, seq, "the fold belongs to no record");
    if (err != 0)
        return; /* noted where the log was read */
    if (!kind_is_message(record->kind) || record->erased != fold->erased)
        scrub_damage(scrub, KV_FOLD, id, seq, "the fold does not fit its record");
    if (fold->edit_seq == 0)
        return;
    err = scrub_record(scrub, conv->id, fold->edit_seq, &record);
    if (fold->edit_seq > conv->head ||
        (err == 0 && (record->kind != LOQUAT__KIND__KIND_EDIT || record->target != seq)))
        scrub_damage(scrub, KV_FOLD, id, seq, "its newest edit, %llu, is no edit of it",
                     num(fold->edit_seq));
}

/* Rows of one conversation in a family of sequences or hashes. */
static int each_row(struct scrub *scrub, const struct scrub_conv *conv, enum kv_cf cf,
                    void (*check)(struct scrub *, const struct scrub_conv *, uint64_t, struct span))
{
    struct key from = key_conv(scrub->partition, conv->id), until = from;
    memset(until.p + until.n, 0xff, 9); /* behind every 64-bit number */
    until.n += 9;
    struct kv_iter iter;
    int err = 0;
    kv_iter_open_scan(&iter, scrub->keeper->kv, &scrub->view, cf, key_span(&from),
                      key_span(&until));
    for (kv_iter_first(&iter); err == 0 && kv_iter_valid(&iter); kv_iter_next(&iter)) {
        struct span key = kv_iter_key(&iter);
        if (key.n == KEY_SEQ_SIZE)
            check(scrub, conv, get_be64(key.p + KEY_CONV_SIZE), kv_iter_value(&iter));
        else
            scrub_damage(scrub, cf, conv->header->id, 0, "a key has %zu bytes", key.n);
        arena_reset(&scrub->arena);
        err = scrub_tick(scrub);
    }
    scrub_ended(scrub, cf, conv->header->id, &iter);
    kv_iter_close(&iter);
    return err;
}

int scrub_folds(struct scrub *scrub, const struct scrub_conv *conv)
{
    return each_row(scrub, conv, KV_FOLD, check_fold);
}

/* ---- cids ---- */

static bool is_hash_of(const Loquat__Record *record, uint64_t hash)
{
    struct span from = span_str(record->from), cid = span_str(record->cid);
    if (cid.n == 0 || cid.n > CID_MAX || from.n > USER_MAX)
        return false;
    for (uint32_t salt = 0; salt < DEDUP_SALTS; salt++)
        if (dedup_hash(from, cid, salt) == hash)
            return true;
    return false;
}

static void check_cid(struct scrub *scrub, const struct scrub_conv *conv, uint64_t seq,
                      uint64_t hash)
{
    const char *id = conv->header->id;
    Loquat__Record *record = NULL;
    if (seq == 0 || seq > conv->head)
        scrub_damage(scrub, KV_DEDUP, id, seq, "a cid points past the head %llu", num(conv->head));
    else if (seq >= conv->floor && scrub_record(scrub, conv->id, seq, &record) == 0 &&
             !is_hash_of(record, hash))
        scrub_damage(scrub, KV_DEDUP, id, seq, "a cid points at a record that has another one");
}

static void check_dedup(struct scrub *scrub, const struct scrub_conv *conv, uint64_t row,
                        struct span value)
{
    uint64_t hashes[DEDUP_ROW];
    if (row % DEDUP_ROW != 0 || dedup_row_read(value, hashes) != 0) {
        scrub_damage(scrub, KV_DEDUP, conv->header->id, row, "a row of cids can't be read");
        return;
    }
    for (uint64_t i = 0; i < DEDUP_ROW; i++)
        if (hashes[i] != 0)
            check_cid(scrub, conv, row + i, hashes[i]);
}

int scrub_dedup(struct scrub *scrub, const struct scrub_conv *conv)
{
    return each_row(scrub, conv, KV_DEDUP, check_dedup);
}

/* ---- users: lists and own logs ---- */

struct user {
    struct conv_id id;
    bool begun;
    char name[USER_MAX + 1]; /* empty: not known */
    struct scrub_chain chain;
};

/* The key holds a hash; the name stands in each record of the user's log. */
static void begin_user(struct scrub *scrub, struct user *user, struct conv_id id)
{
    *user = (struct user){.id = id, .begun = true, .chain = {.begun = true}};
    Loquat__Record *record = NULL;
    int err = scrub_get(scrub, KV_USER, key_user_log(scrub->partition, id, 1));
    if (err == 0)
        err = record_decode(buf_span(&scrub->value), &scrub->arena.allocator, &record);
    if (err != 0) {
        scrub_damage(scrub, KV_USER, "", 1, "user %016llx%016llx has no readable log", num(id.hi),
                     num(id.lo));
        return;
    }
    size_t size = strlen(record->from);
    if (size > USER_MAX || !conv_id_eq(user_log_id(span_str(record->from)), id))
        scrub_damage(scrub, KV_USER, record->from, 1, "the log stands under another user's key");
    else
        memcpy(user->name, record->from, size + 1);
}

static void check_listed(struct scrub *scrub, const struct user *user, struct span key,
                         struct span value)
{
    const Loquat__UserConv *row =
        loquat__user_conv__unpack(&scrub->arena.allocator, value.n, (const uint8_t *)value.p);
    size_t head = KEY_CONV_SIZE + 1;
    struct conv_id id = {0};
    if (key.n == head + 16)
        id = (struct conv_id){get_be64(key.p + head), get_be64(key.p + head + 8)};
    if (row == NULL || !conv_id_eq(id, conv_id_of(span_str(row->conv)))) {
        scrub_damage(scrub, KV_USER, user->name, 0, "a row of the list can't be read");
        return;
    }
    if (row->gone || user->name[0] == 0)
        return;
    uint32_t partition = partition_of(id, scrub->keeper->partitions);
    int err = scrub_get(scrub, KV_CONV, key_member(partition, id, span_str(user->name)));
    const Loquat__Member *member = NULL;
    if (err == 0)
        member = loquat__member__unpack(&scrub->arena.allocator, scrub->value.n,
                                        (const uint8_t *)scrub->value.p);
    if ((err == ERR_NOT_FOUND || (member != NULL && member->role == LOQUAT__ROLE__ROLE_NONE)) &&
        !owed(scrub, partition, user->name, row->conv))
        scrub_damage(scrub, KV_USER, row->conv, 0, "it stands in the list of %s, who is no member",
                     user->name);
}

static void check_own(struct scrub *scrub, struct user *user, struct span key, struct span value)
{
    if (key.n != KEY_CONV_SIZE + 9) {
        scrub_damage(scrub, KV_USER, user->name, 0, "a key has %zu bytes", key.n);
        return;
    }
    uint64_t seq = get_be64(key.p + key.n - 8), want = user->chain.seq + 1;
    if (seq != want)
        scrub_damage(scrub, KV_USER, user->name, want, "records of the user's log are missing");
    scrub_link(scrub, &user->chain, KV_USER, user->name, seq, value);
}

int scrub_users(struct scrub *scrub)
{
    struct key from = key_partition(scrub->partition), until = key_partition(scrub->partition + 1);
    struct kv_iter iter;
    struct user user = {0};
    int err = 0;
    kv_iter_open_scan(&iter, scrub->keeper->kv, &scrub->view, KV_USER, key_span(&from),
                      key_span(&until));
    for (kv_iter_first(&iter); err == 0 && kv_iter_valid(&iter); kv_iter_next(&iter)) {
        struct span key = kv_iter_key(&iter), value = kv_iter_value(&iter);
        if (key.n <= KEY_CONV_SIZE) {
            scrub_damage(scrub, KV_USER, "", 0, "a key has %zu bytes", key.n);
            continue;
        }
        struct conv_id id = {get_be64(key.p + 2), get_be64(key.p + 10)};
        if (!user.begun || !conv_id_eq(id, user.id))
            begin_user(scrub, &user, id);
        if (key.p[KEY_CONV_SIZE] == KEY_TAG_LIST)
            check_listed(scrub, &user, key, value);
        else if (key.p[KEY_CONV_SIZE] == KEY_TAG_USERLOG)
            check_own(scrub, &user, key, value);
        else if (key.p[KEY_CONV_SIZE] != KEY_TAG_SETTINGS ||
                 loquat__user_settings__unpack(&scrub->arena.allocator, value.n,
                                               (const uint8_t *)value.p) == NULL)
            scrub_damage(scrub, KV_USER, user.name, 0, "the settings can't be read");
        arena_reset(&scrub->arena);
        err = scrub_tick(scrub);
    }
    scrub_ended(scrub, KV_USER, user.name, &iter);
    kv_iter_close(&iter);
    return err;
}

/* ---- feed, effects owed, applied index ---- */

static bool runs_fit(struct span row)
{
    struct feedlog_run run;
    while (row.n > 0)
        if (feedlog_run(&row, &run) != 0)
            return false;
    return true;
}

static bool out_fits(struct scrub *scrub, struct span value)
{
    return value.n > 2 && get_be16(value.p) < scrub->keeper->partitions &&
           loquat__command__unpack(&scrub->arena.allocator, value.n - 2,
                                   (const uint8_t *)value.p + 2) != NULL;
}

static int numbered(struct scrub *scrub, enum kv_cf cf)
{
    enum { OUT_COUNTER_BITS = 16 };
    struct key from = key_partition(scrub->partition), until = key_partition(scrub->partition + 1);
    struct kv_iter iter;
    int err = 0;
    kv_iter_open_scan(&iter, scrub->keeper->kv, &scrub->view, cf, key_span(&from),
                      key_span(&until));
    for (kv_iter_first(&iter); err == 0 && kv_iter_valid(&iter); kv_iter_next(&iter)) {
        struct span key = kv_iter_key(&iter), value = kv_iter_value(&iter);
        uint64_t number = key.n == 10 ? get_be64(key.p + 2) : UINT64_MAX;
        uint64_t index = cf == KV_OUT ? number >> OUT_COUNTER_BITS : number;
        if (index > scrub->applied)
            scrub_damage(scrub, cf, "", number, "a row is ahead of the applied index %llu",
                         num(scrub->applied));
        else if (!(cf == KV_FEED ? runs_fit(value) : out_fits(scrub, value)))
            scrub_damage(scrub, cf, "", number, "the row can't be read");
        arena_reset(&scrub->arena);
        err = scrub_tick(scrub);
    }
    scrub_ended(scrub, cf, "", &iter);
    kv_iter_close(&iter);
    return err;
}

/* ---- consumers, beside the applied index ---- */

static bool consumer_fits(struct scrub *scrub, struct span key, struct span value)
{
    struct span name = span_of(key.p + 3, key.n - 3);
    if (scrub->partition != 0)
        return false;
    if (name.n == 0)
        return value.n == 8; /* how many there are */
    const Loquat__Consumer *consumer =
        loquat__consumer__unpack(&scrub->arena.allocator, value.n, (const uint8_t *)value.p);
    return consumer != NULL && span_is(name, consumer->name);
}

static bool cursor_fits(struct scrub *scrub, struct span value)
{
    const Loquat__Cursor *cursor =
        loquat__cursor__unpack(&scrub->arena.allocator, value.n, (const uint8_t *)value.p);
    return cursor != NULL && cursor->offset >> FEEDLOG_BITS <= scrub->applied;
}

static int consumers(struct scrub *scrub)
{
    struct key from = key_named(scrub->partition, KEY_TAG_CONSUMER, (struct span){0});
    struct key until = key_partition(scrub->partition + 1);
    struct kv_iter iter;
    int err = 0;
    kv_iter_open_scan(&iter, scrub->keeper->kv, &scrub->view, KV_APL, key_span(&from),
                      key_span(&until));
    for (kv_iter_first(&iter); err == 0 && kv_iter_valid(&iter); kv_iter_next(&iter)) {
        struct span key = kv_iter_key(&iter), value = kv_iter_value(&iter);
        bool fits = key.p[2] == KEY_TAG_CONSUMER
                        ? consumer_fits(scrub, key, value)
                        : key.p[2] == KEY_TAG_CURSOR && cursor_fits(scrub, value);
        if (!fits)
            scrub_damage(scrub, KV_APL, "", 0, "the row of a consumer can't be read");
        arena_reset(&scrub->arena);
        err = scrub_tick(scrub);
    }
    scrub_ended(scrub, KV_APL, "", &iter);
    kv_iter_close(&iter);
    return err;
}

int scrub_feed(struct scrub *scrub)
{
    int err = scrub_get(scrub, KV_APL, key_partition(scrub->partition));
    uint64_t term = 0;
    scrub->applied = 0;
    if (err == 0 && apply_row_read(buf_span(&scrub->value), &scrub->applied, &term) != 0)
        scrub_damage(scrub, KV_APL, "", 0, "the applied index of the partition can't be read");
    err = consumers(scrub);
    if (err == 0)
        err = numbered(scrub, KV_FEED);
    return err == 0 ? numbered(scrub, KV_OUT) : err;
}
