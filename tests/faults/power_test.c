/* Power cuts: a node under load is killed, and every file then loses what was written and not
 * synced. What was acknowledged is there all the same, and the node starts.
 * LOQUAT_SEED replays the moments; it is printed when a round fails. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <ftw.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "replication/node.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/ids.h"
#include "store/base/log.h"
#include "tests/lib/nodelink.h"
#include "tests/lib/scratch.h"

enum { ROUNDS = 8, FILES_MAX = 8192, WINDOW = 8, KILL_AFTER_MS = 250, EXIT_FINE = 7 };

/* Shared with the process that is killed. */
static struct shared {
    struct {
        atomic_ulong inode, size; /* size: what a sync has covered */
    } files[FILES_MAX];
    atomic_ulong acknowledged; /* messages 1 … n */
    atomic_ulong lost;         /* bytes, and files that lost some, in all rounds */
    atomic_ulong cut;
} * shared;

static char root[SCRATCH_MAX], dir[SCRATCH_MAX + 16], conv[64], why[512];
static struct node *node;
static struct nodelink gw;

static void note_sync(const struct stat *st)
{
    for (int i = 0; i < FILES_MAX; i++) {
        unsigned long none = 0;
        if (atomic_compare_exchange_strong(&shared->files[i].inode, &none, st->st_ino) ||
            none == st->st_ino) {
            atomic_store(&shared->files[i].size, (unsigned long)st->st_size);
            return;
        }
    }
}

/* These stand before libc's: RocksDB syncs its files through them. What counts is the size before
 * the sync, once that is over. */
static int sync_by(long call, int fd)
{
    struct stat st;
    bool file = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    int rv = (int)syscall(call, fd);
    if (rv == 0 && file && shared != NULL)
        note_sync(&st);
    return rv;
}

__attribute__((visibility("default"))) int fdatasync(int fd)
{
    return sync_by(SYS_fdatasync, fd);
}

__attribute__((visibility("default"))) int fsync(int fd)
{
    return sync_by(SYS_fsync, fd);
}

static int cut_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)ftw;
    if (type != FTW_F || !S_ISREG(st->st_mode))
        return 0;
    unsigned long size = 0;
    for (int i = 0; i < FILES_MAX; i++)
        if (atomic_load(&shared->files[i].inode) == st->st_ino)
            size = atomic_load(&shared->files[i].size);
    if ((unsigned long)st->st_size <= size)
        return 0;
    atomic_fetch_add(&shared->lost, (unsigned long)st->st_size - size);
    atomic_fetch_add(&shared->cut, 1);
    return truncate(path, (off_t)size);
}

static void setup(void)
{
    log_setup("test", LOG_ERROR, LOG_JSON);
    scratch_make(root);
    snprintf(dir, sizeof dir, "%s/data", root);
    group_id(span_str("ann"), span_str("open"), conv);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bool mapped = (void *)shared != MAP_FAILED;
    cr_assert(mapped);
}

static void teardown(void)
{
    munmap(shared, sizeof *shared);
    scratch_remove(root);
}

TestSuite(power, .init = setup, .fini = teardown, .timeout = 200);

/* For the process that is killed: there Criterion must not be asked. */
static void need(bool fine, const char *what)
{
    if (fine)
        return;
    dprintf(2, "NEED %s\n", what);
    _exit(1);
}

static Loquat__Command message(uint64_t number, char cid[24], char text[700])
{
    snprintf(cid, 24, "m%lu", number);
    for (size_t i = 0; i < 699; i++)
        text[i] = (char)('a' + (number * 31 + i * i * 7 + i) % 26);
    text[699] = 0;
    return command_send("ann", conv, cid, text);
}

static void check_log(uint64_t acknowledged)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_RANGE;
    read.user = "ann";
    read.conv = conv;
    uint64_t at = 1, last = 0;
    for (read.from = 1; last == 0; read.from = at) {
        arena_reset(&gw.arena);
        Loquat__Reply *reply = nodelink_reply(&gw, nodelink_read(&gw, &read, conv));
        need(reply != NULL && reply->err == 0, "the log can be read");
        for (size_t i = 0; i < reply->n_items; i++, at++)
            need(reply->items[i]->seq == at && reply->items[i]->hole == 0, "dense");
        last = reply->next == 0 ? reply->head : 0;
    }
    need(last >= acknowledged + 1, "what was acknowledged is there");
    need(last <= acknowledged + 1 + WINDOW, "nothing more than was sent");
}

static void victim(void)
{
    struct node_config config = {
        .dir = dir, .partitions = 2, .disk_reserve = 1, .memtable_bytes = 64 << 10};
    need(node_start(&config, &node, why, sizeof why) == 0, why);
    nodelink_open(&gw, node_connect(node));
    uint64_t done = atomic_load(&shared->acknowledged), sent = done;
    char id[64], cid[24], text[700];
    Loquat__Command command = command_open_group("ann", "open", id, NULL, 0);
    need(nodelink_do(&gw, &command)->err == 0, "opened");
    check_log(done);
    uint64_t first_id = gw.next_id;
    for (uint64_t first = done;;) {
        for (; sent < done + WINDOW; sent++) {
            command = message(sent + 1, cid, text);
            nodelink_write(&gw, &command);
        }
        nodelink_flush(&gw);
        arena_reset(&gw.arena);
        uint64_t number = ++done;
        const Loquat__Reply *reply = nodelink_reply(&gw, first_id + (number - 1 - first));
        need(reply != NULL && reply->err == 0 && reply->seq == number + 1, "answered");
        atomic_store(&shared->acknowledged, number);
    }
}

/* Acknowledged is on disk: eight cuts in a row, each while something is being written. */
Test(power, acknowledged_survives_cuts)
{
    const char *given = getenv("LOQUAT_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : random_u64();
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t before = atomic_load(&shared->acknowledged);
        uint64_t wait_us = (seed >> (round * 8) & 255) * KILL_AFTER_MS * 1000 / 256;
        pid_t pid = fork();
        if (pid == 0) {
            victim();
            _exit(EXIT_FINE);
        }
        int status = 0;
        while (atomic_load(&shared->acknowledged) == before && waitpid(pid, &status, WNOHANG) == 0)
            usleep(1000);
        usleep((useconds_t)wait_us);
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
        cr_assert(killed, "seed %lu, round %d: it ended by itself", seed, round);
        nftw(dir, cut_one, 16, FTW_PHYS);
        cr_assert(gt(u64, atomic_load(&shared->acknowledged), before));
    }
    cr_assert(gt(u64, atomic_load(&shared->cut), 0), "no file lost anything: is it a test?");
}
