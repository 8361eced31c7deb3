/* What one user alone sees: messages hidden for himself, threads and how far they were read. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

#include "store/apply.h"
#include "store/base/err.h"
#include "store/hidden.h"
#include "store/thread.h"
#include "tests/lib/machine.h"
#include "tests/lib/nodelink.h"

static struct machine m;
static char conv[64];

static struct apply_result run(Loquat__Command command)
{
    return machine_do(&m, &command);
}

static int err_of(Loquat__Command command)
{
    return run(command).err;
}

static uint64_t seq_of(Loquat__Command command)
{
    struct apply_result result = run(command);
    cr_assert(eq(int, result.err, 0), "%s: %s", err_name(result.err), result.msg);
    return result.seq;
}

static void setup(void)
{
    machine_open(&m);
    char *members[] = {"bob", "eve"};
    seq_of(command_open_group("ann", "open", conv, members, 2));
}

static void teardown(void)
{
    machine_close(&m);
}

TestSuite(own, .init = setup, .fini = teardown, .timeout = 60);

static Loquat__Command hide(const char *user, uint64_t seq)
{
    Loquat__Command command = command_leave(user, conv, "");
    command.op = LOQUAT__OP__OP_HIDE;
    command.target = seq;
    return command;
}

static Loquat__Command reply_in(const char *user, const char *cid, uint64_t root)
{
    Loquat__Command command = command_send(user, conv, cid, "x");
    command.thread = root;
    return command;
}

static Loquat__Command thread_mark(const char *user, uint64_t root, uint64_t read)
{
    Loquat__Command command = command_leave(user, conv, "");
    command.op = LOQUAT__OP__OP_THREAD_MARK;
    command.thread = root;
    command.read = read;
    return command;
}

/* A page as text: 3 a record, 4-5h a hole `hidden`, e `erased`, x `expired`; ! there is more. */
static const char *page(const char *user, Loquat__Read read)
{
    static char text[1024];
    static const char WHY[] = " exhct";
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    read.op = LOQUAT__READ_OP__READ_RANGE;
    read.user = (char *)(uintptr_t)user;
    read.conv = conv;
    cr_assert(eq(int, machine_range(&m, &read, &reply), 0));
    text[0] = 0;
    for (size_t i = 0; i < reply.n_items; i++) {
        const Loquat__Item *item = reply.items[i];
        size_t n = strlen(text);
        if (item->hole != 0)
            snprintf(text + n, sizeof text - n, "%lu-%lu%c ", item->seq, item->last,
                     WHY[item->hole]);
        else
            snprintf(text + n, sizeof text - n, "%lu ", item->seq);
    }
    return strcat(text, reply.next != 0 ? "!" : "");
}

static const char *log_of(const char *user)
{
    return page(user, (Loquat__Read)LOQUAT__READ__INIT);
}

static const char *folded(const char *user)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.folded = true;
    return page(user, read);
}

Test(own, hidden_for_one)
{
    seq_of(command_send("ann", conv, "1", "x"));
    uint64_t second = seq_of(command_send("ann", conv, "2", "x"));
    seq_of(command_send("ann", conv, "3", "x"));
    seq_of(command_edit("ann", conv, "4", second, "y"));
    cr_assert(eq(u64, second, 3));
    struct apply_result result = run(hide("bob", second));
    cr_assert(eq(int, result.err, 0));
    cr_assert(eq(u64, result.seq, 0));
    cr_assert(eq(u32, result.outs, 1));
    machine_crash(&m);
    cr_assert(eq(str, (char *)folded("bob"), "2 3-3h 4 "));
    cr_assert(eq(str, (char *)log_of("bob"), "1 2 3-3h 4 5-5h ")); /* nor what it was changed to */
    cr_assert(eq(str, (char *)folded("eve"), "2 3 4 "));
    cr_assert(eq(u64, machine_conv(&m, "bob", conv)->unread, 2));
    cr_assert(eq(u64, machine_conv(&m, "eve", conv)->unread, 3));
    cr_assert(eq(u32, run(hide("bob", second)).outs, 0)); /* it is so already */
    cr_assert(eq(u64, machine_conv(&m, "bob", conv)->unread, 2));
    seq_of(command_delete("ann", conv, "5", second)); /* gone for all: counted once */
    cr_assert(eq(u64, machine_conv(&m, "bob", conv)->unread, 2));
    cr_assert(eq(str, (char *)folded("bob"), "2 3-3e 4 "));
    cr_assert(eq(int, err_of(hide("bob", 1)), ERR_NOT_FOUND)); /* no message */
    cr_assert(eq(int, err_of(hide("bob", 99)), ERR_NOT_FOUND));
    cr_assert(eq(int, err_of(hide("zoe", second)), ERR_NOT_FOUND));
}

Test(own, hidden_is_not_the_last)
{
    uint64_t first = seq_of(command_send("ann", conv, "1", "x"));
    uint64_t last = seq_of(command_send("ann", conv, "2", "x"));
    seq_of(hide("bob", last));
    cr_assert(eq(u64, machine_conv(&m, "bob", conv)->last->seq, first));
    cr_assert(eq(u64, machine_conv(&m, "eve", conv)->last->seq, last));
}

Test(own, hidden_mentions)
{
    char *named[] = {"bob"};
    Loquat__Command command = command_send("ann", conv, "1", "x");
    command.mentions = named;
    command.n_mentions = 1;
    uint64_t seq = seq_of(command);
    command.cid = "2";
    seq_of(command);
    cr_assert(eq(u64, machine_conv(&m, "bob", conv)->mentions, 2));
    seq_of(hide("bob", seq));
    cr_assert(eq(u64, machine_conv(&m, "bob", conv)->mentions, 1));
}

Test(own, expired_is_not_unread)
{
    Loquat__Command command = command_send("ann", conv, "1", "x");
    command.ttl_s = 10;
    uint64_t first = seq_of(command);
    seq_of(command_send("ann", conv, "2", "x"));
    cr_assert(eq(u64, machine_conv(&m, "bob", conv)->unread, 2));
    m.now_ms += 20000;
    cr_assert(eq(u64, machine_conv(&m, "bob", conv)->unread, 1));
    seq_of(command_delete("ann", conv, "3", first + 1));
    cr_assert(eq(u64, machine_conv(&m, "bob", conv)->unread, 0));
}

/* ---- threads ---- */

/* What `user` sees of the threads, as "root:replies/unread,". */
static const char *threads(const char *user)
{
    static char text[256];
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    read.op = LOQUAT__READ_OP__READ_THREADS;
    read.user = (char *)(uintptr_t)user;
    read.conv = conv;
    cr_assert(eq(int, machine_read(&m, &read, &reply), 0));
    text[0] = 0;
    for (size_t i = 0; i < reply.n_threads; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%lu:%lu/%lu,",
                 reply.threads[i]->root, reply.threads[i]->replies, reply.threads[i]->unread);
    return text;
}

static Loquat__Read thread_read(uint64_t root)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.thread = root;
    read.folded = true;
    return read;
}

Test(own, threads_newest_first)
{
    uint64_t a = seq_of(command_send("ann", conv, "a", "x"));
    uint64_t b = seq_of(command_send("ann", conv, "b", "x"));
    cr_assert(eq(u64, a, 2));
    cr_assert(eq(u64, b, 3));
    seq_of(reply_in("bob", "1", a));
    seq_of(reply_in("bob", "2", b));
    cr_assert(eq(str, (char *)threads("eve"), "3:1/1,2:1/1,"));
    uint64_t third = seq_of(reply_in("ann", "3", a));
    machine_crash(&m);
    cr_assert(eq(str, (char *)threads("eve"), "2:2/2,3:1/1,"));
    cr_assert(eq(str, (char *)threads("ann"), "2:2/0,3:1/1,")); /* who writes has read it */
    cr_assert(eq(str, (char *)threads("bob"), "2:2/1,3:1/0,"));
    cr_assert(eq(str, (char *)page("eve", thread_read(a)), "4 6 "));
    Loquat__Read back = thread_read(a);
    back.desc = true;
    back.max = 1;
    cr_assert(eq(str, (char *)page("eve", back), "6 !"));
    seq_of(command_delete("ann", conv, "d", third));
    cr_assert(eq(str, (char *)threads("eve"), "2:1/1,3:1/1,"));
    cr_assert(eq(str, (char *)page("eve", thread_read(a)), "4 "));
}

Test(own, place_in_a_thread)
{
    uint64_t root = seq_of(command_send("ann", conv, "a", "x"));
    cr_assert(eq(int, err_of(thread_mark("eve", root, 9)), ERR_NOT_FOUND)); /* no thread yet */
    uint64_t first = seq_of(reply_in("bob", "1", root));
    uint64_t second = seq_of(reply_in("bob", "2", root));
    seq_of(thread_mark("eve", root, first));
    cr_assert(eq(sz, m.applied.mark_count, 1));
    cr_assert(eq(u64, m.applied.marks[0].thread, root));
    cr_assert(eq(u64, m.applied.marks[0].read, first));
    cr_assert(eq(str, (char *)threads("eve"), "2:2/1,"));
    seq_of(thread_mark("eve", root, 1)); /* never back */
    cr_assert(eq(sz, m.applied.mark_count, 0));
    cr_assert(eq(str, (char *)threads("eve"), "2:2/1,"));
    seq_of(hide("eve", second));
    cr_assert(eq(str, (char *)threads("eve"), "2:2/0,"));
    cr_assert(eq(u64, machine_conv(&m, "eve", conv)->unread, 2)); /* the conversation's own count */
    seq_of(thread_mark("eve", root, 99));
    machine_crash(&m);
    seq_of(reply_in("bob", "3", root));
    cr_assert(eq(str, (char *)threads("eve"), "2:3/1,"));
    cr_assert(eq(int, err_of(thread_mark("zoe", root, 9)), ERR_NOT_FOUND));
}

/* A newcomer to a group that keeps its past to itself. */
Test(own, threads_of_before)
{
    Loquat__Command meta = command_meta("ann", conv, "h");
    meta.fields = LOQUAT__META_FIELD__META_HISTORY;
    meta.history_joined = true;
    seq_of(meta);
    uint64_t root = seq_of(command_send("ann", conv, "a", "x"));
    seq_of(reply_in("bob", "1", root));
    seq_of(command_member("ann", conv, "j", MEMBER_ADD, "joe", 0));
    cr_assert(eq(str, (char *)threads("joe"), ""));
    seq_of(reply_in("bob", "2", root));
    cr_assert(eq(str, (char *)threads("joe"), "")); /* its root can't be seen */
    cr_assert(eq(str, (char *)page("joe", thread_read(root)), ""));
}

/* ---- edits ---- */

/* What `user` is shown of the versions of a message: their sequences, newest first. */
static const char *edits(const char *user, uint64_t seq)
{
    static char text[128];
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    read.op = LOQUAT__READ_OP__READ_EDITS;
    read.user = (char *)(uintptr_t)user;
    read.conv = conv;
    read.from = seq;
    int err = machine_read(&m, &read, &reply);
    if (err != 0)
        return err_name(err);
    text[0] = 0;
    for (size_t i = 0; i < reply.n_items; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%lu ", reply.items[i]->seq);
    return text;
}

Test(own, versions_of_a_message)
{
    uint64_t seq = seq_of(command_send("bob", conv, "1", "x"));
    seq_of(command_edit("bob", conv, "2", seq, "y"));
    seq_of(command_send("bob", conv, "3", "between"));
    seq_of(command_edit("bob", conv, "4", seq, "z"));
    cr_assert(eq(str, (char *)edits("ann", seq), "5 3 2 "));
    cr_assert(eq(str, (char *)edits("bob", seq), "5 3 2 "));
    cr_assert(eq(str, (char *)edits("eve", seq), (char *)err_name(ERR_FORBIDDEN)));
    cr_assert(eq(str, (char *)edits("zoe", seq), (char *)err_name(ERR_NOT_FOUND)));
    cr_assert(eq(str, (char *)edits("ann", 3), (char *)err_name(ERR_NOT_FOUND)));
    seq_of(command_delete("bob", conv, "5", seq));
    cr_assert(eq(str, (char *)edits("ann", seq), (char *)err_name(ERR_NOT_FOUND)));
}

/* ---- how many have read the newest message of a large group ---- */

Test(own, seen_in_a_large_group)
{
    char user[16], cid[16];
    for (int i = 0; i < MARK_EVENT_MEMBERS_MAX; i++) {
        snprintf(user, sizeof user, "u%d", i);
        snprintf(cid, sizeof cid, "j%d", i);
        seq_of(command_member("ann", conv, cid, MEMBER_ADD, user, 0));
    }
    uint64_t seq = seq_of(command_send("ann", conv, "1", "x"));
    run(command_mark("bob", conv, seq - 1, 0)); /* not that one */
    cr_assert(eq(sz, m.applied.mark_count, 0));
    Loquat__Command marks[3] = {command_mark("bob", conv, seq, 0),
                                command_mark("eve", conv, seq, 0),
                                command_mark("eve", conv, seq, 0)};
    Loquat__Command *all[3] = {&marks[0], &marks[1], &marks[2]};
    machine_entry(&m, all, 3);
    cr_assert(eq(sz, m.applied.mark_count, 1)); /* one for all of an entry */
    cr_assert(eq(u64, m.applied.marks[0].seen, 3));
    cr_assert(eq(u64, m.applied.marks[0].read, seq));
    run(command_mark("u0", conv, seq, 0));
    cr_assert(eq(u64, m.applied.marks[0].seen, 4));
}
