#include "store/apply.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

#include "store/base/bound.h"
#include "store/base/err.h"
#include "store/base/record.h"
#include "store/dedup.h"
#include "store/key.h"
#include "store/state.h"
#include "tests/lib/machine.h"
#include "tests/lib/measured.h"
#include "tests/lib/nodelink.h"

static struct machine m;
static char conv[64];

static struct apply_result run(Loquat__Command command)
{
    return machine_do(&m, &command);
}

static int err_of(Loquat__Command command)
{
    struct apply_result result = run(command);
    cr_assert(eq(int, result.err == 0, result.msg == NULL), "an error says why, and only an error");
    return result.err;
}

static uint64_t seq_of(Loquat__Command command)
{
    struct apply_result result = run(command);
    cr_assert(eq(int, result.err, 0), "%s: %s", err_name(result.err), result.msg);
    return result.seq;
}

static uint64_t unread(const char *user)
{
    const Loquat__ConvInfo *info = machine_conv(&m, user, conv);
    cr_assert(ne(ptr, (void *)info, NULL));
    return info->unread;
}

/* ann owns a group with bob and eve in it; the log stands at 1. */
static void setup(void)
{
    machine_open(&m);
    char *members[] = {"bob", "eve"};
    cr_assert(eq(u64, seq_of(command_open_group("ann", "open", conv, members, 2)), 1));
}

static void teardown(void)
{
    machine_close(&m);
}

TestSuite(apply, .init = setup, .fini = teardown, .timeout = 60);

/* ---- send ---- */

/* Sequences are dense, ordinals count messages only, mids rise. */
Test(apply, sequences_ordinals_mids)
{
    uint64_t mid = 0;
    for (uint64_t i = 0; i < 20; i++) {
        char cid[16];
        snprintf(cid, sizeof cid, "m%lu", i);
        struct apply_result result = run(i % 5 == 4 ? command_edit("ann", conv, cid, 2, "x")
                                                    : command_send("ann", conv, cid, "x"));
        cr_assert(eq(int, result.err, 0));
        cr_assert(eq(u64, result.seq, i + 2));
        cr_assert(eq(u64, result.n, i + 1 - (i + 1) / 5));
        cr_assert(lt(u64, mid, result.mid));
        cr_assert(eq(u64, result.ts, m.now_ms));
        mid = result.mid;
    }
}

/* Mids rise even when the leader's clock goes back, or thousands come within one millisecond. */
Test(apply, mids_rise_whatever_the_clock_says)
{
    uint64_t mid = run(command_send("ann", conv, "a", "x")).mid;
    m.now_ms -= 60000;
    for (int i = 0; i < 5000; i++) {
        char cid[16];
        snprintf(cid, sizeof cid, "m%d", i);
        m.now_ms--; /* machine_entry puts it back */
        uint64_t next = run(command_send("ann", conv, cid, "x")).mid;
        cr_assert(lt(u64, mid, next));
        mid = next;
    }
    machine_restart(&m);
    cr_assert(lt(u64, mid, run(command_send("ann", conv, "b", "x")).mid));
}

/* The same cid with the same content is answered as the first time; with other content: conflict.
 * The same cid of another user is another message. */
Test(apply, cid_is_the_key_of_idempotency)
{
    struct apply_result first = run(command_send("ann", conv, "k", "x"));
    struct apply_result again = run(command_send("ann", conv, "k", "x"));
    cr_assert(again.dup && !first.dup);
    cr_assert(again.seq == first.seq && again.n == first.n && again.mid == first.mid &&
              again.ts == first.ts);
    cr_assert(eq(int, err_of(command_send("ann", conv, "k", "y")), ERR_CONFLICT));
    Loquat__Command other = command_send("ann", conv, "k", "x");
    other.reply = 1;
    cr_assert(eq(int, err_of(other), ERR_CONFLICT));
    cr_assert(eq(int, err_of(command_edit("ann", conv, "k", first.seq, "x")), ERR_CONFLICT));
    cr_assert(eq(int, err_of(command_delete("ann", conv, "k", first.seq)), ERR_CONFLICT));
    struct apply_result bobs = run(command_send("bob", conv, "k", "x"));
    cr_assert(not(bobs.dup));
    cr_assert(eq(u64, bobs.seq, first.seq + 1));
    cr_assert(eq(u64, machine_conv(&m, "ann", conv)->head, bobs.seq));
}

/* The answer to a cid stands after a crash, a restart, a seal, a deletion, and retention. */
Test(apply, cid_outlives_everything)
{
    struct apply_result first = run(command_send("ann", conv, "k", "x"));
    struct apply_result gone = run(command_send("ann", conv, "gone", "x"));
    seq_of(command_delete("ann", conv, "del", gone.seq));
    for (int step = 0; step < 6; step++) {
        if (step == 1)
            machine_crash(&m);
        if (step == 2)
            machine_restart(&m);
        if (step == 3)
            for (int i = 0; i < 2 * DEDUP_GENERATION; i++) {
                char cid[16];
                snprintf(cid, sizeof cid, "s%d", i);
                seq_of(command_send("bob", conv, cid, "x"));
            }
        if (step == 4)
            machine_restart(&m);
        if (step == 5) {
            machine_flush(&m);
            seq_of(command_send("bob", conv, "tail", "x"));
            machine_crash(&m);
        }
        struct apply_result again = run(command_send("ann", conv, "k", "x"));
        cr_assert(again.dup && again.seq == first.seq && again.mid == first.mid &&
                      again.n == first.n && again.ts == first.ts,
                  "step %d", step);
        again = run(command_send("ann", conv, "gone", "x"));
        cr_assert(again.dup && again.seq == gone.seq, "step %d", step);
        cr_assert(eq(int, err_of(command_send("ann", conv, "k", "y")), ERR_CONFLICT));
        cr_assert(run(command_delete("ann", conv, "del", gone.seq)).dup);
    }
    seq_of(command_retain(conv, 1000));
    struct key key = key_seq(0, conv_id_of(span_str(conv)), first.seq);
    kv_delete(&m.batch, KV_LOG, key_span(&key));
    machine_write(&m);
    struct apply_result again = run(command_send("ann", conv, "k", "x"));
    cr_assert(again.dup && again.seq == first.seq);
}

/* What can't be sent, and by whom. */
Test(apply, send_is_checked)
{
    cr_assert(eq(int, err_of(command_send("zoe", conv, "a", "x")), ERR_NOT_FOUND));
    cr_assert(eq(int, err_of(command_send("ann", "g-none", "a", "x")), ERR_NOT_FOUND));
    Loquat__Command command = command_send("ann", conv, "a", "x");
    command.kind = LOQUAT__KIND__KIND_EDIT;
    cr_assert(eq(int, err_of(command), ERR_BAD_REQUEST));
    command = command_send("ann", conv, "a", "x");
    command.reply = 99;
    cr_assert(eq(int, err_of(command), ERR_BAD_REQUEST));
    command = command_send("ann", conv, "a", "x");
    command.thread = 1; /* the opening, not a message */
    cr_assert(eq(int, err_of(command), ERR_BAD_REQUEST));
    command.thread = 99;
    cr_assert(eq(int, err_of(command), ERR_BAD_REQUEST));
    static char longest[66];
    memset(longest, 'c', 65);
    cr_assert(eq(int, err_of(command_send("ann", conv, longest, "x")), ERR_BAD_REQUEST));
    cr_assert(eq(u64, machine_conv(&m, "ann", conv)->head, 1));
}

/* A time to live beyond all measure does not wrap around. */
Test(apply, endless_ttl)
{
    Loquat__Command command = command_send("ann", conv, "a", "x");
    command.ttl_s = UINT64_MAX;
    seq_of(command);
    cr_assert(ne(ptr, machine_conv(&m, "bob", conv)->last, NULL));
    cr_assert(eq(int, err_of(command_edit("ann", conv, "e", 2, "y")), 0));
}

/* A thread hangs on a message that is there and is in no thread itself. */
Test(apply, threads)
{
    uint64_t root = seq_of(command_send("ann", conv, "root", "x"));
    Loquat__Command command = command_send("bob", conv, "r", "x");
    command.thread = root;
    uint64_t reply = seq_of(command);
    cr_assert(run(command).dup);
    command.cid = "r2";
    command.thread = reply;
    cr_assert(eq(int, err_of(command), ERR_BAD_REQUEST));
    seq_of(command_delete("ann", conv, "d", root));
    command.cid = "r3";
    command.thread = root;
    cr_assert(eq(int, err_of(command), ERR_BAD_REQUEST));
}

/* Import: an operator writes for others with their time; the mid is still of now. */
Test(apply, operators_write_for_others)
{
    Loquat__Command command = command_send("old", conv, "a", "x");
    command.ts = 1500000000000;
    cr_assert(eq(int, err_of(command), ERR_NOT_FOUND));
    command.admin = true;
    struct apply_result result = run(command);
    cr_assert(eq(int, result.err, 0));
    cr_assert(eq(u64, result.ts, 1500000000000));
    cr_assert(eq(u64, mid_ms(result.mid), m.now_ms));
    command.cid = "far";
    for (uint64_t ts = UINT64_MAX; ts > 1ull << 48; ts /= 8) {
        command.ts = ts;
        cr_assert(eq(int, err_of(command), ERR_BAD_REQUEST), "%lu", ts);
    }
    command.ts = 253402300799999;
    result = run(command);
    cr_assert(result.ts == command.ts && mid_ms(result.mid) == m.now_ms);
    command = command_send("ann", conv, "b", "x");
    command.ts = 1;
    cr_assert(eq(u64, run(command).ts, m.now_ms));
}

/* ---- edit, delete ---- */

/* Only the author edits, only messages that are there. */
Test(apply, edit_is_the_authors)
{
    uint64_t seq = seq_of(command_send("bob", conv, "m", "x"));
    cr_assert(eq(int, err_of(command_edit("ann", conv, "e", seq, "y")), ERR_FORBIDDEN));
    cr_assert(eq(int, err_of(command_edit("zoe", conv, "e", seq, "y")), ERR_NOT_FOUND));
    cr_assert(eq(int, err_of(command_edit("bob", conv, "e", 1, "y")), ERR_NOT_FOUND));
    cr_assert(eq(int, err_of(command_edit("bob", conv, "e", 0, "y")), ERR_NOT_FOUND));
    cr_assert(eq(int, err_of(command_edit("bob", conv, "e", 99, "y")), ERR_NOT_FOUND));
    uint64_t edit = seq_of(command_edit("bob", conv, "e", seq, "y"));
    cr_assert(run(command_edit("bob", conv, "e", seq, "y")).dup);
    cr_assert(eq(int, err_of(command_edit("bob", conv, "e", seq, "z")), ERR_CONFLICT));
    cr_assert(eq(int, err_of(command_edit("bob", conv, "e2", edit, "z")), ERR_NOT_FOUND));
    seq_of(command_delete("bob", conv, "d", seq));
    cr_assert(eq(int, err_of(command_edit("bob", conv, "e3", seq, "z")), ERR_NOT_FOUND));
}

/* Author, admin and owner delete for all; others don't; twice is no second record. */
Test(apply, who_deletes)
{
    uint64_t anns = seq_of(command_send("ann", conv, "1", "x"));
    uint64_t bobs = seq_of(command_send("bob", conv, "2", "x"));
    uint64_t more = seq_of(command_send("bob", conv, "3", "x"));
    cr_assert(eq(int, err_of(command_delete("eve", conv, "d", bobs)), ERR_FORBIDDEN));
    cr_assert(eq(int, err_of(command_delete("bob", conv, "d", anns)), ERR_FORBIDDEN));
    cr_assert(eq(int, err_of(command_delete("bob", conv, "d", bobs)), 0));
    cr_assert(eq(int, err_of(command_delete("ann", conv, "d", more)), 0));
    cr_assert(eq(u64, seq_of(command_delete("ann", conv, "d2", more)), 0));
    seq_of(command_member("ann", conv, "r", MEMBER_ROLE, "eve", LOQUAT__ROLE__ROLE_ADMIN));
    cr_assert(eq(int, err_of(command_delete("eve", conv, "d", anns)), 0));
    Loquat__Command command = command_delete("ops", conv, "d", 1);
    command.admin = true;
    cr_assert(eq(int, err_of(command), ERR_NOT_FOUND));
}

static bool log_holds(const char *text)
{
    struct kv_iter iter;
    bool found = false;
    for (int cf = 0; cf < KV_CF_COUNT; cf++) {
        kv_iter_open(&iter, m.kv, NULL, (enum kv_cf)cf, (struct span){0}, (struct span){0});
        for (kv_iter_first(&iter); kv_iter_valid(&iter); kv_iter_next(&iter)) {
            struct span value = kv_iter_value(&iter);
            found = found || memmem(value.p, value.n, text, strlen(text)) != NULL;
        }
        kv_iter_close(&iter);
    }
    return found;
}

/* Deleting for all takes the content of the message and of all of its edits. */
Test(apply, delete_erases_message_and_edits)
{
    uint64_t seq = seq_of(command_send("ann", conv, "m", "secret-0"));
    for (int i = 1; i <= 300; i++) {
        char cid[16], text[24];
        snprintf(cid, sizeof cid, "e%d", i);
        snprintf(text, sizeof text, "secret-%d", i);
        seq_of(command_edit("ann", conv, cid, seq, text));
    }
    cr_assert(log_holds("secret"));
    uint64_t head = machine_conv(&m, "ann", conv)->head;
    cr_assert(eq(u64, seq_of(command_delete("ann", conv, "d", seq)), head + 1));
    cr_assert(not(log_holds("secret")));
    machine_crash(&m);
    cr_assert(not(log_holds("secret")));
    cr_assert(run(command_send("ann", conv, "m", "secret-0")).dup);
}

/* ---- unread ---- */

/* Messages after the mark, less deleted ones: those deleted before or after the mark count alike,
 * those below it do not matter, whoever deletes and whenever. */
Test(apply, unread_is_a_subtraction)
{
    for (int i = 0; i < 10; i++) {
        char cid[16];
        snprintf(cid, sizeof cid, "m%d", i);
        seq_of(command_send("ann", conv, cid, "x")); /* 2 … 11 */
    }
    cr_assert(eq(u64, unread("bob"), 10));
    cr_assert(eq(u64, unread("ann"), 0));
    seq_of(command_edit("ann", conv, "e", 11, "y"));
    cr_assert(eq(u64, unread("bob"), 10));
    cr_assert(eq(int, err_of(command_mark("bob", conv, 5, 0)), 0));
    cr_assert(eq(u64, unread("bob"), 6));
    seq_of(command_delete("ann", conv, "d1", 4));
    cr_assert(eq(u64, unread("bob"), 6));
    cr_assert(eq(u64, unread("eve"), 9));
    seq_of(command_delete("ann", conv, "d2", 8));
    cr_assert(eq(u64, unread("bob"), 5));
    cr_assert(eq(u64, unread("eve"), 8));
    cr_assert(eq(int, err_of(command_mark("bob", conv, 8, 0)), 0));
    cr_assert(eq(u64, unread("bob"), 3));
    cr_assert(eq(int, err_of(command_mark("bob", conv, 7, 0)), 0)); /* never back */
    cr_assert(eq(u64, unread("bob"), 3));
    cr_assert(eq(int, err_of(command_mark("bob", conv, 1000, 0)), 0));
    cr_assert(eq(u64, unread("bob"), 0));
    cr_assert(eq(u64, machine_conv(&m, "bob", conv)->read, 14));
    seq_of(command_send("ann", conv, "late", "x"));
    cr_assert(eq(u64, unread("bob"), 1));
    machine_crash(&m);
    cr_assert(eq(u64, unread("bob"), 1));
    cr_assert(eq(u64, unread("eve"), 9));
}

/* What retention took away is not unread. */
Test(apply, unread_counts_what_is_kept)
{
    for (int i = 0; i < 10; i++) {
        char cid[16];
        snprintf(cid, sizeof cid, "m%d", i);
        seq_of(command_send("ann", conv, cid, "x")); /* 2 … 11 */
    }
    seq_of(command_delete("ann", conv, "d1", 4));
    seq_of(command_delete("ann", conv, "d2", 10));
    seq_of(command_retain(conv, 7));
    cr_assert(eq(u64, unread("bob"), 4)); /* 7 8 9 11 */
    cr_assert(eq(int, err_of(command_mark("bob", conv, 3, 0)), 0));
    cr_assert(eq(u64, unread("bob"), 4));
    cr_assert(eq(int, err_of(command_mark("bob", conv, 8, 0)), 0));
    cr_assert(eq(u64, unread("bob"), 2));
    cr_assert(eq(u64, seq_of(command_retain(conv, 5)), 7));
}

/* Who joins has nothing unread; who writes has read what came before, after a crash too. */
Test(apply, joining_and_writing_reads)
{
    for (int i = 0; i < 5; i++) {
        char cid[16];
        snprintf(cid, sizeof cid, "m%d", i);
        seq_of(command_send("ann", conv, cid, "x"));
    }
    seq_of(command_member("ann", conv, "add", MEMBER_ADD, "joe", 0));
    cr_assert(eq(u64, machine_conv(&m, "joe", conv)->unread, 0));
    uint64_t seq = seq_of(command_send("bob", conv, "b", "x"));
    cr_assert(eq(u64, machine_conv(&m, "joe", conv)->unread, 1));
    for (int i = 0; i < 3; i++) {
        const Loquat__ConvInfo *info = machine_conv(&m, "bob", conv);
        cr_assert(eq(u64, info->unread, 0));
        cr_assert(eq(u64, info->read, seq));
        cr_assert(eq(u64, info->delivered, seq), "life %d", i);
        if (i == 0)
            machine_restart(&m);
        else
            machine_crash(&m);
    }
}

/* Marks are told to others in small groups only, once each. */
Test(apply, marks_are_told)
{
    seq_of(command_send("ann", conv, "m", "x"));
    run(command_mark("bob", conv, 2, 0));
    cr_assert(eq(sz, m.applied.mark_count, 1));
    cr_assert(span_is(m.applied.marks[0].user, "bob"));
    cr_assert(eq(u64, m.applied.marks[0].read, 2));
    cr_assert(eq(u64, m.applied.marks[0].delivered, 2));
    run(command_mark("bob", conv, 2, 1));
    cr_assert(eq(sz, m.applied.mark_count, 0));
    cr_assert(eq(int, err_of(command_mark("zoe", conv, 2, 0)), ERR_NOT_FOUND));
    for (int i = 0; i < 30; i++) {
        char cid[16], who[16];
        snprintf(cid, sizeof cid, "a%d", i);
        snprintf(who, sizeof who, "user%d", i);
        seq_of(command_member("ann", conv, cid, MEMBER_ADD, who, 0));
    }
    run(command_mark("bob", conv, 3, 0));
    cr_assert(eq(sz, m.applied.mark_count, 0));
}

/* ---- entries ---- */

/* A command that is refused, unknown or malformed does not disturb its neighbours. */
Test(apply, bad_commands_stand_alone)
{
    Loquat__Command a = command_send("ann", conv, "a", "x"), b = LOQUAT__COMMAND__INIT,
                    c = command_send("ann", conv, "b", "x");
    b.op = 77;
    Loquat__Command *all[] = {&a, &b, &c, &a};
    machine_entry(&m, all, 4);
    cr_assert(eq(u64, m.applied.results[0].seq, 2));
    cr_assert(eq(int, m.applied.results[1].err, ERR_BAD_REQUEST));
    cr_assert(eq(u64, m.applied.results[2].seq, 3));
    cr_assert(m.applied.results[3].dup && m.applied.results[3].seq == 2);
    struct buf entry = {0};
    entry_begin(&entry, ENTRY_VERSION, m.now_ms);
    entry_add(&entry, span_str("\xff\xff\xff no command"));
    machine_replay(&m, buf_span(&entry));
    machine_write(&m);
    cr_assert(eq(int, m.applied.results[0].err, ERR_BAD_REQUEST));
    buf_close(&entry);
    cr_assert(eq(u64, seq_of(command_send("ann", conv, "c", "x")), 4));
}

/* An entry that is none stops the partition instead of being passed over. */
Test(apply, damaged_entry_is_an_error)
{
    cr_assert(
        eq(int,
           apply_entry(m.apply, m.count + 1, 1, span_str("\x7f garbage...."), &m.batch, &m.applied),
           ERR_CORRUPT));
}

/* What is on disk is behind what is applied until a flush, and never ahead. */
Test(apply, flushed_index_follows_flushes)
{
    uint64_t index, term;
    cr_assert(eq(int, apply_flushed_index(m.kv, 0, &index, &term), 0));
    cr_assert(eq(u64, index, 0));
    seq_of(command_send("ann", conv, "a", "x"));
    machine_flush(&m);
    uint64_t applied = apply_index(m.apply);
    seq_of(command_send("ann", conv, "b", "x"));
    cr_assert(eq(int, apply_flushed_index(m.kv, 0, &index, &term), 0));
    cr_assert(eq(u64, index, applied));
    cr_assert(eq(u64, term, 1));
}

/* Effects that were not delivered are still owed after a crash, and delivered twice is once. */
Test(apply, effects_are_owed_until_done)
{
    char id[64];
    Loquat__Command open = command_open_group("joe", "x", id, NULL, 0);
    struct buf entry = {0}, bytes = {0};
    size_t size = loquat__command__get_packed_size(&open);
    loquat__command__pack(&open, (uint8_t *)buf_grow(&bytes, size));
    entry_begin(&entry, ENTRY_VERSION, m.now_ms);
    entry_add(&entry, buf_span(&bytes));
    machine_replay(&m, buf_span(&entry));
    machine_write(&m);
    cr_assert(eq(sz, m.applied.out_count, 1));
    cr_assert(eq(u32, m.applied.results[0].outs, 1));
    machine_crash(&m);
    struct applied owed;
    applied_init(&owed);
    cr_assert(eq(int, apply_outs(m.apply, &owed), 0));
    cr_assert(eq(sz, owed.out_count, 1));
    for (int i = 0; i < 2; i++) {
        entry_begin(&entry, ENTRY_VERSION, m.now_ms);
        entry_add(&entry, owed.outs[0].command);
        machine_replay(&m, buf_span(&entry));
        machine_write(&m);
    }
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply;
    read.op = LOQUAT__READ_OP__READ_USER;
    read.user = "joe";
    cr_assert(eq(int, machine_read(&m, &read, &reply), 0));
    cr_assert(eq(sz, reply.n_ids, 1));
    cr_assert(eq(u64, reply.head, 1));
    Loquat__Command done = LOQUAT__COMMAND__INIT;
    done.op = LOQUAT__OP__OP_OUT_DONE;
    done.done = &owed.outs[0].number;
    done.n_done = 1;
    machine_do(&m, &done);
    applied_close(&owed);
    applied_init(&owed);
    cr_assert(eq(int, apply_outs(m.apply, &owed), 0));
    cr_assert(eq(sz, owed.out_count, 0));
    applied_close(&owed);
    buf_close(&entry);
    buf_close(&bytes);
}

/* ---- memory ---- */

/* However many conversations are touched: what is held of them has a bound, and is read again. */
Test(apply, caches_are_emptied)
{
    enum { EACH = 256 };
    static const char HITS[] = "loquat_bound_hits_total{bound=\"conv_cache\"}";
    static char ids[EACH][64], cids[EACH][16];
    Loquat__Command commands[EACH], *pointers[EACH];
    bounds_register(BOUND_OF_NODE);
    size_t largest = 0;
    for (int round = 0; measured(HITS) == 0; round++) {
        for (int i = 0; i < EACH; i++) {
            snprintf(cids[i], sizeof cids[i], "%d", round * EACH + i);
            commands[i] = command_open_group("ann", cids[i], ids[i], NULL, 0);
            pointers[i] = &commands[i];
        }
        machine_entry(&m, pointers, EACH);
        struct apply_sizes sizes = apply_sizes(m.apply);
        cr_assert(le(sz, sizes.convs, CONV_CACHE_MAX));
        if (measured(HITS) > 0)
            cr_assert(lt(sz, sizes.convs, largest));
        largest = sizes.convs;
    }
    cr_assert(eq(i64, measured(HITS), 1));
    cr_assert(eq(u64, seq_of(command_send("ann", ids[0], "after", "x")), 2));
    cr_assert(eq(u64, seq_of(command_send("bob", conv, "after", "x")), 2));
}
