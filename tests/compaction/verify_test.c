/* Damage planted row by row in a directory at rest, and what verify says of it. */
#include "tests/compaction/verify_lib.h"

TestSuite(verify, .init = setup, .fini = teardown, .timeout = 60);

typedef void (*change_record)(Loquat__Record *record);

static void change(uint64_t seq, change_record edit)
{
    get(KV_LOG, log_key(seq));
    Loquat__Record *record = NULL;
    cr_assert(eq(int, record_decode(buf_span(&value), &arena.allocator, &record), 0));
    edit(record);
    value.n = 0;
    record_encode(record, &value);
    put(KV_LOG, log_key(seq));
}

typedef void (*change_header)(Loquat__ConvHeader *header);

static void change_conv(change_header edit)
{
    struct key key = key_header(partition, id);
    get(KV_CONV, key);
    Loquat__ConvHeader *header =
        loquat__conv_header__unpack(&arena.allocator, value.n, (const uint8_t *)value.p);
    edit(header);
    value.n = 0;
    loquat__conv_header__pack(
        header, (uint8_t *)buf_grow(&value, loquat__conv_header__get_packed_size(header)));
    put(KV_CONV, key);
}

typedef void (*change_member)(Loquat__Member *member);

static void change_row(const char *user, change_member edit)
{
    struct key key = key_member(partition, id, span_str(user));
    get(KV_CONV, key);
    Loquat__Member *member =
        loquat__member__unpack(&arena.allocator, value.n, (const uint8_t *)value.p);
    edit(member);
    value.n = 0;
    loquat__member__pack(member,
                         (uint8_t *)buf_grow(&value, loquat__member__get_packed_size(member)));
    put(KV_CONV, key);
}

/* Nothing planted: nothing found, and everything was looked at. */
Test(verify, whole_is_whole)
{
    Loquat__Report *report = verify();
    cr_assert(eq(u64, report->damage_count, 0));
    cr_assert(eq(u64, report->conv_count, 1));
    cr_assert(lt(u64, HEAD + 12 /* cids */ + 2 /* members */ + 2 /* folds */, report->rows));
}

/* One flipped bit anywhere in a record is named with its sequence. */
Test(verify, flipped_byte)
{
    get(KV_LOG, log_key(7));
    value.p[value.n / 2] ^= 4;
    put(KV_LOG, log_key(7));
    expect(KV_LOG, conv, 7, "checksum");
}

Test(verify, missing_record)
{
    drop(KV_LOG, log_key(7));
    expect(KV_LOG, conv, 7, "missing");
}

Test(verify, missing_records_are_one_place)
{
    for (uint64_t seq = 4; seq < 8; seq++)
        drop(KV_LOG, log_key(seq));
    expect(KV_LOG, conv, 4, "up to 7 are missing");
}

/* The first one too, when no floor explains it. */
Test(verify, missing_first)
{
    drop(KV_LOG, log_key(1));
    expect(KV_LOG, conv, 1, "missing");
}

static void raise_floor(Loquat__ConvHeader *header)
{
    header->floor = 4;
    header->expired = 2;
}

/* Below the floor rows may be gone; what is there is right. */
Test(verify, floor_explains_gaps)
{
    change_conv(raise_floor);
    drop(KV_LOG, log_key(1));
    drop(KV_LOG, log_key(3));
    cr_assert(eq(u64, verify()->damage_count, 0));
}

static void wrong_expired(Loquat__ConvHeader *header)
{
    header->floor = 4;
    header->expired = 1;
}

Test(verify, wrong_ordinal_at_the_floor)
{
    change_conv(wrong_expired);
    expect(KV_LOG, conv, 4, "ordinal");
}

static void high_head(Loquat__ConvHeader *header)
{
    header->head = HEAD + 4;
}

/* The header knows of more than there is: records are lost at the end. */
Test(verify, wrong_head)
{
    change_conv(high_head);
    expect(KV_CONV, conv, HEAD + 4, "head is 17");
}

static void saved_head(Loquat__ConvHeader *header)
{
    header->head = 8;
    header->ordinal = 7;
}

/* The header's head may lag, it is written now and then. */
Test(verify, old_head_is_fine)
{
    change_conv(saved_head);
    cr_assert(eq(u64, verify()->damage_count, 0));
}

static void wrong_saved(Loquat__ConvHeader *header)
{
    header->head = 8;
    header->ordinal = 6;
}

Test(verify, wrong_ordinal_in_the_header)
{
    change_conv(wrong_saved);
    expect(KV_CONV, conv, 8, "ordinal there is 6");
}

static void more_gap(Loquat__Record *record)
{
    record->gap++;
}

Test(verify, wrong_ordinal)
{
    change(9, more_gap);
    expect(KV_LOG, conv, 9, "ordinal is 7");
}

static void early_mid(Loquat__Record *record)
{
    record->mid_off -= 4096ll * 1000 * 1000;
}

Test(verify, mid_that_falls)
{
    change(9, early_mid);
    expect(KV_LOG, conv, 9, "mid");
}

static void other_id(Loquat__ConvHeader *header)
{
    header->id[3] = '\a';
    header->id[4] = '\xff';
}

Test(verify, header_of_another_conversation)
{
    change_conv(other_id);
    Loquat__Report *report = verify();
    cr_assert(lt(u64, 0, report->damage_count));
    bool found = false, printable = true;
    for (size_t i = 0; i < report->n_damages; i++) {
        const Loquat__Damage *damage = report->damages[i];
        found = found || strstr(damage->what, "key of another id") != NULL;
        for (const char *at = damage->conv; *at != 0; at++) /* whatever bytes it holds */
            printable = printable && *at >= ' ' && *at <= '~';
    }
    cr_assert(printable);
    cr_assert(found);
}

Test(verify, records_without_a_header)
{
    drop(KV_CONV, key_header(partition, id));
    expect(KV_LOG, "", 1, "no header");
}

static void two_owners(Loquat__ConvHeader *header)
{
    header->owners = 2;
}

Test(verify, miscounted_members)
{
    change_conv(two_owners);
    expect(KV_CONV, conv, 0, "2 owners");
}

static void read_ahead(Loquat__Member *member)
{
    member->read = HEAD + 1;
}

Test(verify, mark_above_the_head)
{
    change_row("bob", read_ahead);
    expect(KV_CONV, conv, HEAD + 1, "above the head");
}

static void read_wrong(Loquat__Member *member)
{
    member->read = 9;
    member->read_n = 5;
}

Test(verify, mark_with_a_wrong_ordinal)
{
    change_row("bob", read_wrong);
    expect(KV_CONV, conv, 9, "has read 5 messages by the mark, 8 by the record");
}

/* A fold of an edit is none of a message. */
Test(verify, fold_of_no_message)
{
    get(KV_FOLD, log_key(5));
    put(KV_FOLD, log_key(12));
    expect(KV_FOLD, conv, 12, "does not fit");
}

Test(verify, fold_with_another_edit)
{
    get(KV_FOLD, log_key(5));
    put(KV_FOLD, log_key(8)); /* its edit_seq is an edit of 5 */
    expect(KV_FOLD, conv, 8, "no edit of it");
}

/* ---- beside the log ---- */

static void put_reactions(uint64_t seq, const char *user, const char *emoji)
{
    Loquat__UserReactions row = LOQUAT__USER_REACTIONS__INIT;
    char *emojis[] = {(char *)(uintptr_t)emoji};
    row.emojis = emojis;
    row.n_emojis = 1;
    value.n = 0;
    loquat__user_reactions__pack(
        &row, (uint8_t *)buf_grow(&value, loquat__user_reactions__get_packed_size(&row)));
    put(KV_CONV, key_reactions(partition, id, seq, span_str(user)));
}

static void put_counts(uint64_t seq, const char *emoji)
{
    Loquat__Fold fold = LOQUAT__FOLD__INIT;
    Loquat__Reaction reaction = LOQUAT__REACTION__INIT, *reactions[] = {&reaction};
    reaction.emoji = (char *)(uintptr_t)emoji;
    reaction.n = 1;
    fold.reactions = reactions;
    fold.n_reactions = 1;
    value.n = 0;
    loquat__fold__pack(&fold, (uint8_t *)buf_grow(&value, loquat__fold__get_packed_size(&fold)));
    put(KV_FOLD, log_key(seq));
}

static void put_mention(uint64_t seq, const char *user)
{
    char row[8] = {0};
    value.n = 0;
    buf_add(&value, row, sizeof row);
    put(KV_CONV, key_mention(partition, id, span_str(user), seq));
}

static void mentions_bob(Loquat__Record *record)
{
    static char *named[] = {"bob"};
    record->mentions = named;
    record->n_mentions = 1;
}

Test(verify, reactions_and_mentions_that_fit)
{
    put_reactions(3, "bob", "+");
    put_counts(3, "+");
    change(4, mentions_bob);
    put_mention(4, "bob");
    cr_assert(eq(u64, verify()->damage_count, 0));
}

Test(verify, reaction_that_is_not_counted)
{
    put_reactions(3, "bob", "*");
    put_counts(3, "+");
    expect(KV_CONV, conv, 3, "counts no *, but bob");
}

Test(verify, reactions_unreadable)
{
    value.n = 0;
    buf_add(&value, "\xff\xff", 2);
    put(KV_CONV, key_reactions(partition, id, 3, span_str("bob")));
    expect(KV_CONV, conv, 3, "reactions can't be read");
}

Test(verify, reactions_behind_the_head)
{
    put_reactions(HEAD + 1, "bob", "+");
    expect(KV_CONV, conv, HEAD + 1, "belongs to no record");
}

Test(verify, mention_of_nobody)
{
    put_mention(4, "bob");
    expect(KV_CONV, conv, 4, "does not mention bob");
}

Test(verify, mention_behind_the_head)
{
    put_mention(HEAD + 1, "bob");
    expect(KV_CONV, conv, HEAD + 1, "belongs to no record");
}

Test(verify, row_of_an_unknown_kind)
{
    struct key key = key_conv(partition, id);
    key.p[key.n++] = 9;
    value.n = 0;
    put(KV_CONV, key);
    expect(KV_CONV, conv, 0, "row of kind 9");
}

static void put_le(struct key key, uint64_t number)
{
    char row[8];
    put_le64(row, number);
    value.n = 0;
    buf_add(&value, row, sizeof row);
    put(KV_CONV, key);
}

static void is_of_thread_3(Loquat__Record *record)
{
    record->thread = 3;
}

Test(verify, threads_and_hidden_ones_that_fit)
{
    change(4, is_of_thread_3);
    put_le(key_thread(partition, id, 3, 4), 0);
    put_le(key_active(partition, id, 4), 3);
    put_le(key_place(partition, id, span_str("bob"), 3), 4);
    value.n = 0;
    put(KV_CONV, key_hidden(partition, id, span_str("bob"), 4));
    cr_assert(eq(u64, verify()->damage_count, 0));
}

Test(verify, message_of_another_thread)
{
    put_le(key_thread(partition, id, 3, 4), 0);
    expect(KV_CONV, conv, 4, "not of thread 3");
}

Test(verify, thread_behind_the_head)
{
    put_le(key_active(partition, id, HEAD + 1), 3);
    expect(KV_CONV, conv, HEAD + 1, "belongs to no thread");
}

Test(verify, hidden_behind_the_head)
{
    value.n = 0;
    put(KV_CONV, key_hidden(partition, id, span_str("bob"), HEAD + 1));
    expect(KV_CONV, conv, 0, "row of kind 5");
}

/* A row of cids in which one sequence has this hash. */
static void put_cid(uint64_t seq, uint64_t hash)
{
    char chunk[12];
    put_be16(chunk, (uint16_t)(seq % DEDUP_ROW));
    put_be16(chunk + 2, 1);
    put_le64(chunk + 4, hash);
    value.n = 0;
    buf_add(&value, chunk, sizeof chunk);
    put(KV_DEDUP, key_seq(partition, id, seq - seq % DEDUP_ROW));
}

/* A cid that leads to another record would answer a retry wrongly. */
Test(verify, cid_of_another_record)
{
    put_cid(9, dedup_hash(span_str("ann"), span_str("m3"), 0));
    expect(KV_DEDUP, conv, 9, "another one");
}

Test(verify, cid_behind_the_head)
{
    put_cid(HEAD + 1, 77);
    expect(KV_DEDUP, conv, HEAD + 1, "past the head");
}

Test(verify, cids_unreadable)
{
    value.n = 0;
    buf_add(&value, "\0\0\0\2short", 9);
    put(KV_DEDUP, key_seq(partition, id, 0));
    expect(KV_DEDUP, conv, 0, "can't be read");
}

static uint32_t user_partition(const char *user)
{
    return partition_of(user_log_id(span_str(user)), PARTITIONS);
}

Test(verify, conversation_missing_in_a_list)
{
    drop(KV_USER, key_user_conv(user_partition("bob"), user_log_id(span_str("bob")), id));
    expect(KV_USER, conv, 0, "list of its member bob");
}

Test(verify, list_of_somebody_who_is_no_member)
{
    drop(KV_CONV, key_member(partition, id, span_str("bob")));
    expect(KV_USER, conv, 0, "list of bob, who is no member");
}

Test(verify, hole_in_a_user_log)
{
    struct conv_id log = user_log_id(span_str("bob"));
    get(KV_USER, key_user_log(user_partition("bob"), log, 1));
    put(KV_USER, key_user_log(user_partition("bob"), log, 3));
    expect(KV_USER, "bob", 2, "missing");
}

/* A bit flipped in the files themselves is found, whatever it hit: RocksDB's checksums or ours. */
Test(verify, flipped_bit_in_every_file)
{
    cr_assert(eq(int, kv_write(&batch), 0));
    kv_batch_close(&batch);
    kv_close(kv);
    char data[4 * SCRATCH_MAX];
    snprintf(data, sizeof data, "%s/data", dir);
    cr_assert(lt(uint, 0, scratch_flip(data, ".sst", 1)));
    kv = NULL;
    struct kv_options options = {.read_only = true};
    if (kv_open(data, KV_DATA, &options, &kv) != 0)
        return; /* told even earlier */
    kv_close(kv);
    Loquat__Control ask = compact_ask(LOQUAT__CONTROL_OP__CONTROL_VERIFY);
    Loquat__Report *report = compact_at_rest(dir, PARTITIONS, &ask, &arena);
    cr_assert(report->err != 0 || report->damage_count > 0);
}
