/* power ROUNDS: a node under load is killed, and the directory then loses what a power cut may
 * take (power_disk.h): of what was written and not synced some bytes, whole sectors, or all; names.
 * Or the machine keeps its power, and what was not synced is lost by a later cut. Then the node
 * starts, what was acknowledged is there under its sequence, and all readers agree. Segments of the
 * journal are small here, so that they are full, needed no more and written over all the time, and
 * one partition has nothing to do, so that its entries are moved. Prints the seed; LOQUAT_SEED
 * replays its choices. The last line, `N passed, N failed`, counts rounds. */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "replication/node.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/ids.h"
#include "store/base/log.h"
#include "store/base/record.h"
#include "tests/faults/power_disk.h"
#include "tests/lib/dice.h"
#include "tests/lib/nodelink.h"
#include "tests/lib/scratch.h"

enum {
    CONVS = 4, /* message n goes to conversation n % CONVS */
    WINDOW = 32,
    PARTITIONS = 5,
    ROUNDS_MAX = 10000,
    EARLY_MS = 150,
    KILL_AFTER_MS = 250,
    ANSWER_S = 60,
    TEXT = 500,
    KEEPS_POWER = 5, /* one round in so many */
};

/* Shared with the process that is killed: messages 0 … n - 1 were. */
static atomic_ulong *answered_upto;

static char root[SCRATCH_MAX], dir[SCRATCH_MAX + 16], convs[CONVS][64];
static uint64_t seed;
static struct power_lost lost;

static uint64_t roll(uint64_t sides)
{
    return dice_roll(&seed, sides);
}

/* ---- the process that is killed ---- */

/* For the process that is killed. */
static void need(bool fine, const char *what, uint64_t n)
{
    if (fine)
        return;
    printf("    FAIL: %s (%llu)\n", what, (unsigned long long)n);
    fflush(stdout);
    _exit(1);
}

static Loquat__Command message(uint64_t n, char cid[24], char text[TEXT])
{
    snprintf(cid, 24, "m%llu", (unsigned long long)n);
    for (uint64_t i = 0; i < TEXT - 1; i++)
        text[i] = (char)('a' + (n * 31 + i * i * 7 + i * (n % 11)) % 26);
    text[TEXT - 1] = 0;
    return command_send("ann", convs[n % CONVS], cid, text);
}

/* Sequence 1 is that of the opening. */
static uint64_t seq_of(uint64_t n)
{
    return n / CONVS + 2;
}

static void check_item(struct nodelink *link, int conv, const Loquat__Item *item)
{
    need(item->hole == 0, "a hole", item->seq);
    Loquat__Record *record = NULL;
    int err = record_decode(span_of(item->record.data, item->record.len), &link->arena.allocator,
                            &record);
    need(err == 0, "a damaged record", item->seq);
    if (item->seq == 1)
        return;
    char cid[24], text[TEXT];
    message((item->seq - 2) * CONVS + (uint64_t)conv, cid, text);
    need(strcmp(record->cid, cid) == 0, "another record", item->seq);
    need(span_is(span_of(record->body.data, record->body.len), text), "another text", item->seq);
}

static uint64_t check_view(struct nodelink *link, int conv, bool folded, bool desc)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_RANGE;
    read.user = "ann";
    read.conv = convs[conv];
    read.folded = folded;
    read.desc = desc;
    read.from = desc ? 0 : 1;
    uint64_t count = 0, head = 0;
    do {
        arena_reset(&link->arena);
        Loquat__Reply *reply = nodelink_reply(link, nodelink_read(link, &read, convs[conv]));
        need(reply != NULL && reply->err == 0, "a read failed", read.from);
        head = reply->head;
        for (size_t i = 0; i < reply->n_items; i++, count++) {
            /* the opening is no message: not in the folded view */
            uint64_t at = desc ? head - count : count + 1 + folded;
            need(reply->items[i]->seq == at, "not dense", at);
            check_item(link, conv, reply->items[i]);
        }
        read.from = reply->next;
    } while (read.from != 0);
    need(count + folded == head, "another number of records", count);
    return head;
}

static void check_all(struct nodelink *link, uint64_t acknowledged)
{
    for (int c = 0; c < CONVS; c++) {
        uint64_t owed =
            acknowledged > (uint64_t)c ? (acknowledged - (uint64_t)c + CONVS - 1) / CONVS + 1 : 1;
        uint64_t head = check_view(link, c, false, false);
        need(head >= owed, "acknowledged and lost", owed - head);
        need(head <= owed + WINDOW, "more than was sent", head);
        need(check_view(link, c, false, true) == head, "readers differ", head);
        need(check_view(link, c, true, false) == head, "readers differ", head);
        need(check_view(link, c, true, true) == head, "readers differ", head);
    }
}

static void open_convs(struct nodelink *link)
{
    for (int i = 0; i < CONVS; i++) {
        char cid[16], id[64];
        snprintf(cid, sizeof cid, "open%d", i);
        Loquat__Command command = command_open_group("ann", cid, id, NULL, 0);
        Loquat__Reply *reply = nodelink_do(link, &command);
        need(reply != NULL && reply->err == 0, "not opened", (uint64_t)i);
    }
}

/* Answers of several partitions come in any order; acknowledged counts those without a gap. */
static void write_on(struct nodelink *link)
{
    uint64_t first = atomic_load(answered_upto), first_id = link->next_id;
    static bool answered[WINDOW];
    for (uint64_t done = first, sent = first;;) {
        for (; sent < done + WINDOW; sent++) {
            char cid[24], text[TEXT];
            Loquat__Command command = message(sent, cid, text);
            nodelink_write(link, &command);
        }
        nodelink_flush(link);
        int type;
        struct span body;
        need(nodelink_next(link, &type, &body), "the node has gone", done);
        if (type != LINK_REPLY)
            continue;
        Loquat__Reply *reply =
            loquat__reply__unpack(&link->arena.allocator, body.n, (const uint8_t *)body.p);
        need(reply != NULL && reply->err == 0, "a write failed", done);
        uint64_t n = first + (reply->id - first_id);
        need(reply->seq == seq_of(n), "another sequence", n);
        answered[n % WINDOW] = true;
        for (; done < sent && answered[done % WINDOW]; done++)
            answered[done % WINDOW] = false;
        atomic_store(answered_upto, done);
        arena_reset(&link->arena);
    }
}

static void victim(void)
{
    struct node_config config = {
        .dir = dir, .partitions = PARTITIONS, .disk_reserve = 1, .memtable_bytes = 64 << 10};
    struct node *node = NULL;
    char why[1024] = "";
    struct nodelink link;
    alarm(ANSWER_S);
    need(node_start(&config, &node, why, sizeof why) == 0, why, 0);
    nodelink_open(&link, node_connect(node));
    open_convs(&link);
    check_all(&link, atomic_load(answered_upto));
    write_on(&link);
}

/* ---- rounds ---- */

static bool run_round(unsigned number)
{
    uint64_t before = atomic_load(answered_upto), kill_us;
    bool early = roll(4) == 0, power = roll(KEEPS_POWER) == 0;
    int status = 0;
    kill_us = early ? roll(EARLY_MS * 1000) : roll(KILL_AFTER_MS * 1000);
    fflush(stdout);
    pid_t pid = fork();
    ASSERT(pid >= 0);
    if (pid == 0) {
        victim();
        _exit(0);
    }
    pid_t ended = 0;
    while (!early && atomic_load(answered_upto) == before && ended == 0) {
        usleep(500); /* there is no other event in a process that must not be looked into */
        ended = waitpid(pid, &status, WNOHANG);
    }
    usleep((useconds_t)kill_us);
    if (ended == 0) {
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
    }
    bool fine = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (!power)
        power_cut(&seed, &lost);
    printf("round %u: %s %llu ms after %s, %lu acknowledged, %s\n", number,
           power ? "killed" : "cut", (unsigned long long)kill_us / 1000,
           early ? "the start" : "the first answer", atomic_load(answered_upto),
           fine ? "ok" : "FAIL");
    return fine;
}

int main(int argc, char **argv)
{
    long rounds = dice_rounds("power", argc, argv, ROUNDS_MAX, &seed), done = 0;
    scratch_make(root);
    snprintf(dir, sizeof dir, "%s/data", root);
    power_open(root);
    for (int i = 0; i < CONVS; i++) {
        char cid[16];
        snprintf(cid, sizeof cid, "open%d", i);
        group_id(span_str("ann"), span_str(cid), convs[i]);
    }
    void *room = mmap(NULL, sizeof *answered_upto, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bool mapped = room != MAP_FAILED;
    ASSERT(mapped);
    answered_upto = room;
    bool fine = true;
    while (fine && done < rounds) /* what follows a failure would only tell it again */
        fine = run_round((unsigned)++done);
    printf("lost: %lu bytes of %lu files, %lu sectors torn out, %lu names gone, %lu back\n",
           lost.bytes, lost.files, lost.sectors, lost.names_gone, lost.names_back);
    printf("written over in the journal, not synced: %lu sectors, %lu of them undone\n",
           lost.rewritten, lost.undone);
    power_close();
    if (fine)
        scratch_remove(root);
    else
        printf("the directory is kept: %s\n", root);
    printf("%ld passed, %d failed\n", fine ? done : done - 1, !fine);
    return fine ? 0 : 1;
}
