/* crash ROUNDS: a process runs a node under the load of several writers and is killed (SIGKILL) at
 * a random point, again and again on the same directory. After each kill: every acknowledged record
 * is there exactly once under the sequence that was answered, sequences are dense, both views, both
 * directions and a tail agree, and a retry of the same cid gets the same answer.
 * Prints the seed; LOQUAT_SEED replays its choices. The last line, `N passed, N failed`, counts
 * rounds. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "replication/node.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/ids.h"
#include "store/base/log.h"
#include "store/base/record.h"
#include "tests/lib/dice.h"
#include "tests/lib/nodelink.h"
#include "tests/lib/scratch.h"

enum {
    WRITERS = 4,
    CONVS = 8, /* record n of a writer goes to conversation n % CONVS */
    WINDOW = 48,
    ROUND_RECORDS = 3000, /* of one writer, at most */
    ROUNDS_MAX = 1000,
    RECORDS_MAX = 400000, /* of one writer, in all rounds */
    EDITS_FROM = 100,     /* from here on every tenth record is an edit of the writer's first */
    KILL_AFTER_MS = 350,
    EARLY_MS = 60,
    ANSWER_MS = 30000,
};

static char root[SCRATCH_MAX], dir[SCRATCH_MAX + 16], convs[CONVS][64];
static const char *const users[WRITERS] = {"ann", "bob", "cid", "dan"};
static uint64_t seed;
/* What was answered: sequence of record n of a writer; 0: no answer came. */
static uint64_t answered[WRITERS][RECORDS_MAX];
static uint32_t next_record[WRITERS];
static unsigned wrong;

struct answer {
    uint32_t writer, n;
    uint64_t seq;
};

static uint64_t roll(uint64_t sides)
{
    return dice_roll(&seed, sides);
}

static void expect(bool fine, const char *what, uint32_t writer, uint64_t n)
{
    if (!fine && wrong++ < 20)
        printf("    FAIL: %s (%s, %llu)\n", what, users[writer % WRITERS], (unsigned long long)n);
}

/* ---- records ---- */

struct words {
    char cid[24], body[64];
};

static Loquat__Command command_of(uint32_t writer, uint32_t n, struct words *words)
{
    const char *conv = convs[n % CONVS];
    snprintf(words->cid, sizeof words->cid, "%u-%u", writer, n);
    snprintf(words->body, sizeof words->body, "{\"text\":\"record %u of writer %u\"}", n, writer);
    if (n >= EDITS_FROM && n % 10 == 9)
        return command_edit(users[writer], conv, words->cid, answered[writer][n % CONVS],
                            words->body);
    return command_send(users[writer], conv, words->cid, words->body);
}

static struct node *start(void)
{
    struct node_config config = {
        .dir = dir, .partitions = 4, .disk_reserve = 1, .memtable_bytes = 128 << 10};
    struct node *node = NULL;
    char why[512];
    if (node_start(&config, &node, why, sizeof why) != 0) {
        printf("    FAIL: the node does not start: %s\n", why);
        fflush(stdout);
        _exit(1);
    }
    return node;
}

static void tell(int out, struct answer answer)
{
    ssize_t n = write(out, &answer, sizeof answer); /* whole: shorter than PIPE_BUF */
    ASSERT(n == sizeof answer);
}

/* ---- the process that is killed ---- */

struct writer {
    struct node *node;
    uint32_t number;
    int fd, out;
    pthread_t thread;
};

static void *write_on(void *arg)
{
    struct writer *writer = arg;
    uint32_t me = writer->number, first = next_record[me], sent = first, got = 0;
    struct nodelink link;
    nodelink_open(&link, writer->fd);
    uint64_t first_id = link.next_id;
    while (got < ROUND_RECORDS) {
        while (sent - first < ROUND_RECORDS && sent - first - got < WINDOW) {
            struct words words;
            Loquat__Command command = command_of(me, sent++, &words);
            nodelink_write(&link, &command);
        }
        nodelink_flush(&link);
        int type;
        struct span body;
        bool open = nodelink_next(&link, &type, &body);
        ASSERT(open);
        if (type != LINK_REPLY)
            continue;
        Loquat__Reply *reply =
            loquat__reply__unpack(&link.arena.allocator, body.n, (const uint8_t *)body.p);
        ASSERT(reply != NULL && reply->err == 0 && reply->seq > 0);
        uint32_t n = first + (uint32_t)(reply->id - first_id);
        answered[me][n] = reply->seq;
        tell(writer->out, (struct answer){me, n, reply->seq});
        arena_reset(&link.arena);
        got++;
    }
    nodelink_close(&link);
    return NULL;
}

static void open_convs(struct node *node)
{
    struct nodelink link;
    nodelink_open(&link, node_connect(node));
    char *members[WRITERS];
    for (int i = 0; i < WRITERS; i++)
        members[i] = (char *)(uintptr_t)users[i];
    for (int i = 0; i < CONVS; i++) {
        char cid[16], id[64];
        snprintf(cid, sizeof cid, "open%d", i);
        Loquat__Command command = command_open_group(users[0], cid, id, members, WRITERS);
        Loquat__Reply *reply = nodelink_do(&link, &command);
        ASSERT(reply != NULL && reply->err == 0);
    }
    nodelink_close(&link);
}

static void victim(int out)
{
    struct node *node = start();
    open_convs(node);
    static struct writer writers[WRITERS];
    for (uint32_t i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.node = node, .number = i, .out = out};
        writers[i].fd = node_connect(node);
        int rv = pthread_create(&writers[i].thread, NULL, write_on, &writers[i]);
        ASSERT(rv == 0);
    }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(writers[i].thread, NULL);
    pause(); /* done before its time: killed at rest */
}

/* ---- the process that looks ---- */

struct seen {
    uint64_t head;
    uint64_t *writer_of, *n_of; /* by sequence; writer WRITERS: not of a writer */
};

static Loquat__Reply *page(struct nodelink *link, int conv, bool folded, bool desc, uint64_t from)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_RANGE;
    read.all = true;
    read.conv = convs[conv];
    read.folded = folded;
    read.desc = desc;
    read.from = from;
    arena_reset(&link->arena);
    Loquat__Reply *reply = nodelink_reply(link, nodelink_read(link, &read, convs[conv]));
    ASSERT(reply != NULL);
    return reply;
}

static Loquat__Record *record_of(struct nodelink *link, const Loquat__Item *item)
{
    Loquat__Record *record = NULL;
    struct span bytes = span_of(item->record.data, item->record.len);
    int err = item->hole == 0 ? record_decode(bytes, &link->arena.allocator, &record) : 0;
    expect(item->hole == 0 && err == 0, "a hole or a damaged record at", 0, item->seq);
    return record;
}

static void look_at(struct seen *seen, const Loquat__Record *record, uint64_t seq)
{
    char *end = NULL;
    seen->writer_of[seq] = WRITERS;
    if (record == NULL || record->kind == LOQUAT__KIND__KIND_META)
        return;
    unsigned long writer = strtoul(record->cid, &end, 10);
    unsigned long n = strtoul(end + 1, NULL, 10);
    expect(writer < WRITERS && n < RECORDS_MAX, "a cid that nobody wrote at", 0, seq);
    if (writer >= WRITERS || n >= RECORDS_MAX)
        return;
    seen->writer_of[seq] = writer;
    seen->n_of[seq] = n;
    if (record->kind != LOQUAT__KIND__KIND_TEXT)
        return;
    struct words words;
    command_of((uint32_t)writer, (uint32_t)n, &words);
    expect(span_is(span_of(record->body.data, record->body.len), words.body), "another body",
           (uint32_t)writer, n);
}

/* The log upwards, which the other readers are compared with. */
static void read_log(struct nodelink *link, int conv, struct seen *seen)
{
    uint64_t at = 1;
    for (uint64_t from = 1; from != 0;) {
        Loquat__Reply *reply = page(link, conv, false, false, from);
        expect(reply->err == 0, "the log can't be read", 0, from);
        if (reply->err != 0)
            return;
        if (seen->writer_of == NULL) {
            seen->head = reply->head;
            seen->writer_of = xcalloc(seen->head + 1, sizeof(uint64_t));
            seen->n_of = xcalloc(seen->head + 1, sizeof(uint64_t));
        }
        for (size_t i = 0; i < reply->n_items; i++) {
            expect(reply->items[i]->seq == at, "not dense at", 0, at);
            look_at(seen, record_of(link, reply->items[i]), at++);
        }
        from = reply->next;
    }
    expect(at == seen->head + 1, "the log ends before its head", 0, at);
}

static void read_other(struct nodelink *link, int conv, const struct seen *seen, bool folded,
                       bool desc)
{
    uint64_t count = 0, messages = 0;
    for (uint64_t s = 1; s <= seen->head; s++)
        messages +=
            seen->writer_of[s] < WRITERS && (seen->n_of[s] < EDITS_FROM || seen->n_of[s] % 10 != 9);
    uint64_t before = desc ? UINT64_MAX : 0;
    for (uint64_t from = desc ? 0 : 1, last = 0; last == 0;) {
        Loquat__Reply *reply = page(link, conv, folded, desc, from);
        for (size_t i = 0; i < reply->n_items; i++) {
            uint64_t seq = reply->items[i]->seq;
            expect(desc ? seq < before : seq > before, "out of order at", 0, seq);
            const Loquat__Record *record = record_of(link, reply->items[i]);
            if (record != NULL && seen->writer_of[seq] < WRITERS)
                expect(strtoul(strchr(record->cid, '-') + 1, NULL, 10) == seen->n_of[seq],
                       "readers differ at", 0, seq);
            before = seq;
            count++;
        }
        from = reply->next;
        last = reply->next == 0;
    }
    expect(count == (folded ? messages : seen->head), "another number of records", 0, count);
}

static void read_tail(struct node *node, int conv, const struct seen *seen)
{
    struct nodelink link;
    nodelink_open(&link, node_connect(node));
    Loquat__Credit credit = LOQUAT__CREDIT__INIT;
    Loquat__Sub sub = LOQUAT__SUB__INIT;
    credit.bytes = 64 << 20;
    sub.conv = convs[conv];
    sub.partition = partition_of(conv_id_of(span_str(convs[conv])), link.partitions);
    nodelink_add(&link, LINK_CREDIT, &credit.base);
    nodelink_add(&link, LINK_SUB, &sub.base);
    nodelink_flush(&link);
    uint64_t at = 1;
    int type;
    struct span body;
    while (at <= seen->head && nodelink_next(&link, &type, &body)) {
        if (type != LINK_TAIL)
            continue;
        Loquat__Tail *tail =
            loquat__tail__unpack(&link.arena.allocator, body.n, (const uint8_t *)body.p);
        for (size_t i = 0; i < tail->n_items; i++, at++)
            expect(tail->items[i]->seq == at, "the tail is not dense at", 0, at);
        arena_reset(&link.arena);
    }
    nodelink_close(&link);
}

/* Every answer is in the log, once; what is there without an answer got none in time. */
static void compare(struct seen *all)
{
    static uint64_t at[WRITERS][RECORDS_MAX];
    for (int c = 0; c < CONVS; c++)
        for (uint64_t s = 1; s <= all[c].head; s++) {
            uint64_t writer = all[c].writer_of[s], n = all[c].n_of[s];
            if (writer == WRITERS)
                continue;
            expect(at[writer][n] == 0, "twice", (uint32_t)writer, n);
            at[writer][n] = s;
        }
    for (uint32_t w = 0; w < WRITERS; w++)
        for (uint32_t n = 0; n < RECORDS_MAX; n++)
            if (answered[w][n] != 0)
                expect(at[w][n] == answered[w][n], "acknowledged and lost, or moved", w, n);
}

/* The same again: those that were answered, and those that may or may not have been written. */
static void retry(struct nodelink *link, int out)
{
    for (uint32_t w = 0; w < WRITERS; w++) {
        for (uint32_t n = 0; n < next_record[w]; n++) {
            bool owed = answered[w][n] == 0;
            if (!owed && n % 97 != 0 && n + WINDOW < next_record[w])
                continue;
            struct words words;
            Loquat__Command command = command_of(w, n, &words);
            arena_reset(&link->arena);
            Loquat__Reply *reply = nodelink_do(link, &command);
            ASSERT(reply != NULL);
            expect(reply->err == 0 && reply->seq > 0, "a retry failed", w, n);
            if (!owed)
                expect(reply->dup && reply->seq == answered[w][n], "a retry was answered anew", w,
                       n);
            if (owed && reply->err == 0) {
                answered[w][n] = reply->seq;
                tell(out, (struct answer){w, n, reply->seq});
            }
        }
    }
}

static void look(int out)
{
    struct node *node = start();
    open_convs(node);
    struct nodelink link;
    nodelink_open(&link, node_connect(node));
    for (int again = 0; again < 2; again++) {
        struct seen all[CONVS] = {0};
        for (int c = 0; c < CONVS; c++) {
            read_log(&link, c, &all[c]);
            for (int kind = 1; kind < 4; kind++)
                read_other(&link, c, &all[c], kind & 1, kind & 2);
            read_tail(node, c, &all[c]);
        }
        if (again == 0) {
            compare(all);
            retry(&link, out);
        }
        for (int c = 0; c < CONVS; c++) {
            free(all[c].writer_of);
            free(all[c].n_of);
        }
    }
    nodelink_close(&link);
    node_stop(node);
}

/* ---- rounds ---- */

/* Takes answers until the other end is closed, or `until_us` has come. */
static void listen_to(int in, uint64_t until_us)
{
    for (;;) {
        uint64_t now = clock_mono_us();
        struct pollfd p = {.fd = in, .events = POLLIN};
        if (now >= until_us || poll(&p, 1, (int)((until_us - now) / 1000) + 1) <= 0)
            return;
        struct answer answers[256];
        ssize_t n = read(in, answers, sizeof answers);
        if (n <= 0)
            return;
        for (size_t i = 0; i < (size_t)n / sizeof answers[0]; i++) {
            const struct answer *answer = &answers[i];
            answered[answer->writer][answer->n] = answer->seq;
            if (answer->n >= next_record[answer->writer])
                next_record[answer->writer] = answer->n + 1;
        }
    }
}

static pid_t spawn(void (*work)(int), int *in)
{
    int ends[2];
    int rv = pipe(ends);
    ASSERT(rv == 0);
    fflush(stdout);
    pid_t pid = fork();
    ASSERT(pid >= 0);
    if (pid == 0) {
        close(ends[0]);
        work(ends[1]);
        fflush(stdout);
        _exit(wrong == 0 ? 0 : 1);
    }
    close(ends[1]);
    *in = ends[0];
    return pid;
}

static bool run_round(unsigned number)
{
    int in, status = 0;
    uint64_t began = clock_mono_us();
    pid_t pid = spawn(victim, &in);
    /* Sometimes while it starts, else at some time after the first answer. */
    bool early = roll(8) == 0;
    uint64_t kill_us = early ? roll(EARLY_MS * 1000) : roll(KILL_AFTER_MS * 1000);
    struct pollfd first = {.fd = in, .events = POLLIN};
    if (!early)
        poll(&first, 1, ANSWER_MS);
    listen_to(in, clock_mono_us() + kill_us);
    kill(pid, SIGKILL);
    listen_to(in, UINT64_MAX / 2);
    close(in);
    waitpid(pid, &status, 0);
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (!killed)
        printf("    FAIL: the node ended by itself (status %d)\n", status);
    for (int w = 0; w < WRITERS; w++) /* these may have been written without an answer */
        next_record[w] += WINDOW;
    pid = spawn(look, &in);
    listen_to(in, UINT64_MAX / 2);
    close(in);
    waitpid(pid, &status, 0);
    bool fine = killed && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    printf("round %u: killed %llu ms after %s, %u %u %u %u records, %s (%llu ms)\n", number,
           (unsigned long long)kill_us / 1000, early ? "the start" : "the first answer",
           next_record[0], next_record[1], next_record[2], next_record[3], fine ? "ok" : "FAIL",
           (unsigned long long)(clock_mono_us() - began) / 1000);
    return fine;
}

int main(int argc, char **argv)
{
    long rounds = dice_rounds("crash", argc, argv, ROUNDS_MAX, &seed);
    scratch_make(root);
    snprintf(dir, sizeof dir, "%s/data", root);
    for (int i = 0; i < CONVS; i++) {
        char cid[16];
        snprintf(cid, sizeof cid, "open%d", i);
        group_id(span_str(users[0]), span_str(cid), convs[i]);
    }
    unsigned failed = 0;
    for (unsigned i = 1; i <= rounds; i++)
        failed += !run_round(i);
    if (failed == 0)
        scratch_remove(root);
    else
        printf("the directory is kept: %s\n", root);
    printf("%ld passed, %u failed\n", rounds - (long)failed, failed);
    return failed == 0 ? 0 : 1;
}
