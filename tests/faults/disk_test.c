/* Disks that fail: what was acknowledged is never lost, and the process never goes on as if nothing
 * had happened. Each node runs in a process of its own, which ends as after a power cut. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "replication/datadir.h"
#include "replication/node.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/ids.h"
#include "store/base/log.h"
#include "tests/lib/nodelink.h"
#include "tests/lib/scratch.h"

enum { RESERVE = 48 << 20 /* a start needs less */, TEXT = 4000, EXIT_FINE = 7 };

static char root[SCRATCH_MAX], dir[SCRATCH_MAX + 16], conv[64], why[512], text[TEXT + 1];
static struct node *node;
static struct nodelink gw;
static uint64_t reserve, memtable;

/* These stand before libc's: the journal and RocksDB sync their files through them. */
static volatile bool sync_fails;

__attribute__((visibility("default"))) int fdatasync(int fd)
{
    if (sync_fails) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

__attribute__((visibility("default"))) int fsync(int fd)
{
    if (sync_fails) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

static void setup(void)
{
    log_setup("test", LOG_ERROR, LOG_JSON);
    scratch_make(root);
    snprintf(dir, sizeof dir, "%s/data", root);
    group_id(span_str("ann"), span_str("open"), conv);
    memset(text, 'x', TEXT);
    for (int i = 0; i < TEXT; i++) /* hard to compress */
        text[i] = (char)('a' + (i * 7 + i * i * 31 / 17) % 26);
    reserve = 1;
}

static void teardown(void)
{
    umount(dir);
    scratch_remove(root);
}

TestSuite(disk, .init = setup, .fini = teardown, .timeout = 120);

/* Runs `work` in a process of its own; *said is what it wrote to standard error. */
static int in_process(void (*work)(void), char *said, size_t size)
{
    int ends[2];
    cr_assert(eq(int, pipe(ends), 0));
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        work();
        _exit(EXIT_FINE);
    }
    close(ends[1]);
    size_t n = 0;
    for (;;) {
        char rest[1024];
        ssize_t got =
            n + 1 < size ? read(ends[0], said + n, size - 1 - n) : read(ends[0], rest, sizeof rest);
        if (got <= 0)
            break;
        n += n + 1 < size ? (size_t)got : 0;
    }
    said[n] = 0;
    close(ends[0]);
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* For work in a process: there Criterion must not be asked. */
static void need(bool fine, const char *what)
{
    if (fine)
        return;
    dprintf(2, "NEED %s\n", what);
    _exit(1);
}

static void start(void)
{
    struct node_config config = {
        .dir = dir, .partitions = 2, .disk_reserve = reserve, .memtable_bytes = memtable};
    need(node_start(&config, &node, why, sizeof why) == 0, why);
    nodelink_open(&gw, node_connect(node));
    char id[64];
    Loquat__Command command = command_open_group("ann", "open", id, NULL, 0);
    Loquat__Reply *reply = nodelink_do(&gw, &command);
    need(reply != NULL && (reply->err == 0 || reply->err == ERR_NO_SPACE), "open");
}

/* NULL: the node has gone. */
static Loquat__Reply *send_number(uint64_t number)
{
    char cid[24];
    snprintf(cid, sizeof cid, "m%lu", number);
    Loquat__Command command = command_send("ann", conv, cid, text);
    arena_reset(&gw.arena);
    return nodelink_do(&gw, &command);
}

static uint64_t head(void)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_RANGE;
    read.user = "ann";
    read.conv = conv;
    uint64_t at = 1, last = 0;
    do {
        arena_reset(&gw.arena);
        read.from = at;
        Loquat__Reply *reply = nodelink_reply(&gw, nodelink_read(&gw, &read, conv));
        need(reply != NULL && reply->err == 0, "read");
        for (size_t i = 0; i < reply->n_items; i++, at++)
            need(reply->items[i]->seq == at && reply->items[i]->hole == 0, "dense");
        last = reply->next == 0 ? reply->head : 0;
    } while (last == 0);
    need(at == last + 1, "whole");
    return last;
}

/* ---- a sync that fails ---- */

static void sync_error(void)
{
    start();
    need(send_number(1)->seq == 2, "first");
    sync_fails = true;
    need(send_number(2) == NULL, "no answer");
    for (;;)
        pause();
}

static void after_sync_error(void)
{
    start();
    Loquat__Reply *reply = send_number(1);
    need(reply->dup && reply->seq == 2, "the acknowledged one is there");
    reply = send_number(2);
    need(reply->err == 0 && reply->seq == 3, "the other can be sent again");
    need(head() == 3, "once");
    nodelink_close(&gw);
    node_stop(node);
}

/* A sync that fails ends the process with a message, at once: what is on disk is not known then.
 * Nothing is answered; the next start has what was acknowledged. */
Test(disk, failed_sync_ends_the_process)
{
    char said[4096];
    cr_assert(eq(int, in_process(sync_error, said, sizeof said), 1), "%s", said);
    cr_assert(ne(ptr, strstr(said, "could not be written and synced"), NULL), "%s", said);
    cr_assert(eq(ptr, strstr(said, "NEED"), NULL), "%s", said);
    cr_assert(eq(int, in_process(after_sync_error, said, sizeof said), EXIT_FINE), "%s", said);
}

/* ---- a bit that flips ---- */

static void write_some(void)
{
    start();
    for (uint64_t i = 1; i <= 500; i++)
        need(send_number(i)->seq == i + 1, "written");
}

static void start_only(void)
{
    start();
    need(head() < 501, "it was told that some are lost");
    nodelink_close(&gw);
    node_stop(node);
}

/* In the one segment of the journal, at a byte from the end of what was written there: a crash left
 * zeros behind it. */
static void flip_from_end(long back)
{
    char path[SCRATCH_MAX + 64];
    int c, last = 0;
    long end = 0;
    snprintf(path, sizeof path, "%s/journal/0000000000000001.log", dir);
    FILE *file = fopen(path, "r+e");
    cr_assert(ne(ptr, file, NULL));
    for (long at = 1; (c = getc(file)) != EOF; at++)
        end = c != 0 ? at : end;
    cr_assert(lt(i64, back, end));
    cr_assert(zero(int, fseek(file, end - back, SEEK_SET)));
    last = getc(file);
    cr_assert(zero(int, fseek(file, end - back, SEEK_SET)));
    cr_assert(ne(int, putc(last ^ 1, file), EOF));
    cr_assert(zero(int, fclose(file)));
}

/* A flipped bit in the journal, whole frames behind it: they were written when it had been synced.
 * Acknowledged messages must not go in silence: the node says so and does not start. */
Test(disk, flipped_bit_in_the_journal)
{
    char said[4096], path[SCRATCH_MAX + 32];
    cr_assert(eq(int, in_process(write_some, said, sizeof said), EXIT_FINE), "%s", said);
    flip_from_end(100000);
    for (int i = 0; i < 3; i++) {
        cr_assert(eq(int, in_process(start_only, said, sizeof said), 1), "%s", said);
        cr_assert(ne(ptr, strstr(said, "a frame is broken; restore"), NULL), "%s", said);
        snprintf(path, sizeof path, "%s/WATERMARK", dir); /* the third time without it */
        cr_assert(i != 1 || unlink(path) == 0);
    }
}

/* In its last frame: that is what a crash leaves of one that nobody was told of, but for the
 * watermark, which was. */
Test(disk, flipped_bit_at_the_end_of_the_journal)
{
    char said[4096], path[SCRATCH_MAX + 32];
    cr_assert(eq(int, in_process(write_some, said, sizeof said), EXIT_FINE), "%s", said);
    flip_from_end(1000);
    for (int i = 0; i < 2; i++) {
        cr_assert(eq(int, in_process(start_only, said, sizeof said), 1), "%s", said);
        cr_assert(ne(ptr, strstr(said, "has lost entries that were synced"), NULL), "%s", said);
    }
    snprintf(path, sizeof path, "%s/WATERMARK", dir);
    cr_assert(eq(int, unlink(path), 0));
    cr_assert(eq(int, in_process(start_only, said, sizeof said), EXIT_FINE), "%s", said);
    cr_assert(eq(int, in_process(start_only, said, sizeof said), EXIT_FINE), "%s", said);
}

/* ---- halves that do not fit ---- */

static void write_much(void)
{
    memtable = 64 << 10; /* so that the raft log is cut */
    start();
    uint64_t until = clock_mono_us() + 2500000;
    for (uint64_t i = 1; clock_mono_us() < until || i < 300; i++)
        need(send_number(i)->err == 0, "written");
    nodelink_close(&gw);
    node_stop(node);
}

static void start_fresh(void)
{
    start();
    nodelink_close(&gw);
    node_stop(node);
}

static void swap(const char *other, const char *half, const char *aside)
{
    char ours[SCRATCH_MAX + 32], theirs[SCRATCH_MAX + 32], kept[SCRATCH_MAX + 32];
    snprintf(ours, sizeof ours, "%s/%s", dir, half);
    snprintf(theirs, sizeof theirs, "%s/%s", other, half);
    snprintf(kept, sizeof kept, "%s/%s", root, aside);
    cr_assert(eq(int, rename(ours, kept), 0));
    scratch_copy(theirs, ours);
}

/* A data database, or a raft log, of another day: the node says that they do not fit together and
 * does not start; put back as they were, they are whole. */
Test(disk, halves_that_do_not_fit)
{
    static const char *const halves[] = {"data", "journal"};
    char said[4096], other[SCRATCH_MAX + 16], whole[SCRATCH_MAX + 16];
    cr_assert(eq(int, in_process(write_much, said, sizeof said), EXIT_FINE), "%s", said);
    snprintf(whole, sizeof whole, "%s", dir);
    snprintf(other, sizeof other, "%s/other", root);
    snprintf(dir, sizeof dir, "%s", other);
    cr_assert(eq(int, in_process(start_fresh, said, sizeof said), EXIT_FINE), "%s", said);
    for (int i = 0; i < 2; i++) {
        char kept[SCRATCH_MAX + 16], ours[SCRATCH_MAX + 32];
        snprintf(dir, sizeof dir, "%s", whole);
        swap(other, halves[i], "aside");
        cr_assert(eq(int, in_process(start_fresh, said, sizeof said), 1), "%s", said);
        cr_assert(ne(ptr, strstr(said, "is damaged"), NULL), "%s", said);
        snprintf(ours, sizeof ours, "%s/%s", dir, halves[i]);
        snprintf(kept, sizeof kept, "%s/aside", root);
        scratch_remove(ours);
        cr_assert(eq(int, rename(kept, ours), 0));
    }
    cr_assert(eq(int, in_process(start_fresh, said, sizeof said), EXIT_FINE), "%s", said);
}

/* ---- a file system that is full ---- */

static uint64_t acknowledged(void)
{
    char path[SCRATCH_MAX + 32], number[24] = {0};
    snprintf(path, sizeof path, "%s/acknowledged", root);
    FILE *file = fopen(path, "re");
    need(file != NULL && fgets(number, sizeof number, file) != NULL, path);
    fclose(file);
    return strtoull(number, NULL, 10);
}

/* Writes until it is refused, and for a while after. */
static void fill_up(void)
{
    start();
    uint64_t number = acknowledged(), refused = 0;
    need(head() == number, "everything is there");
    while (refused < 2000) {
        Loquat__Reply *reply = send_number(number);
        need(reply != NULL, "the node went");
        if (reply->err == ERR_NO_SPACE || reply->err == ERR_BUSY) {
            refused++;
            continue;
        }
        need(reply->err == 0 && reply->seq == number + 1, err_name(reply->err));
        number++;
    }
    need(head() == number, "reading goes on");
    char text_of[24];
    snprintf(text_of, sizeof text_of, "%lu", number);
    scratch_write(root, "acknowledged", text_of);
}

static void room_again(void)
{
    start();
    uint64_t last = acknowledged();
    need(head() == last, "everything is there");
    for (uint64_t i = 0; i < 3000; i++) {
        const Loquat__Reply *reply = send_number(last + i);
        need(reply->err == 0 && reply->seq == last + i + 1, "writes are taken");
    }
    nodelink_close(&gw);
    node_stop(node);
}

static void full_file_system(uint64_t memtable_bytes)
{
    char said[4096];
    mkdir(dir, 0700);
    if (mount("tmpfs", dir, "tmpfs", 0, "size=192m,mode=0700") != 0) {
        cr_skip("no file system can be mounted here: %s", strerror(errno));
        return;
    }
    reserve = RESERVE;
    memtable = memtable_bytes;
    scratch_write(root, "acknowledged", "1");
    for (int life = 0; life < 4; life++) {
        cr_assert(eq(int, in_process(fill_up, said, sizeof said), EXIT_FINE), "%s", said);
        cr_assert(ne(ptr, strstr(said, "the disk is full"), NULL), "%s", said);
        cr_assert(lt(u64, RESERVE / 4, datadir_free_bytes(dir)), "life %d used the reserve up",
                  life);
    }
    cr_assert(eq(int, mount("tmpfs", dir, "tmpfs", MS_REMOUNT, "size=512m"), 0));
    cr_assert(eq(int, in_process(room_again, said, sizeof said), EXIT_FINE), "%s", said);
}

/* On a full file system writes are refused and reading goes on; a crash and starts on the full file
 * system lose nothing; with room it goes on. With memtables that never fill, and small ones. */
Test(disk, full_file_system)
{
    full_file_system(0);
}

Test(disk, full_file_system_small_memtables)
{
    full_file_system(1 << 20);
}

/* ---- somebody else's files ---- */

static void fill_disk(void)
{
    static char block[1 << 16];
    char path[SCRATCH_MAX + 32];
    snprintf(path, sizeof path, "%s/filler", dir);
    FILE *file = fopen(path, "we");
    need(file != NULL, path);
    for (size_t size = sizeof block; size > 0; size /= 16)
        while (fwrite(block, size, 1, file) == 1 && fflush(file) == 0)
            ;
    fclose(file);
}

static void filled_by_others(void)
{
    start();
    for (uint64_t i = 1; i <= 1000; i++)
        need(send_number(i)->seq == i + 1, "written");
    fill_disk();
    need(datadir_free_bytes(dir) < 65536, "the disk is full");
    uint64_t until = clock_mono_us() + 1000000; /* it is looked at several times a second */
    while (clock_mono_us() < until)
        need(head() == 1001, "reading goes on");
    need(send_number(1001)->err == ERR_NO_SPACE, "writes are refused");
}

static void start_with_room(void)
{
    start();
    need(head() == 1001, "everything is there");
    need(send_number(1001)->seq == 1002, "writes are taken");
    nodelink_close(&gw);
    node_stop(node);
}

/* Not one byte is left, by no fault of the node's: reading goes on and writes are refused. A start
 * says what it lacks; with room everything is there. */
Test(disk, filled_by_others)
{
    char said[4096], path[SCRATCH_MAX + 32];
    mkdir(dir, 0700);
    if (mount("tmpfs", dir, "tmpfs", 0, "size=128m,mode=0700") != 0) {
        cr_skip("no file system can be mounted here: %s", strerror(errno));
        return;
    }
    reserve = 1 << 20;
    cr_assert(eq(int, in_process(filled_by_others, said, sizeof said), EXIT_FINE), "%s", said);
    for (int i = 0; i < 2; i++) {
        int status = in_process(start_with_room, said, sizeof said);
        cr_assert(eq(int, status, 1), "%s", said);
        cr_assert(ne(ptr, strstr(said, "make room and start again"), NULL), "%s", said);
    }
    snprintf(path, sizeof path, "%s/filler", dir);
    cr_assert(eq(int, unlink(path), 0));
    cr_assert(eq(int, in_process(start_with_room, said, sizeof said), EXIT_FINE), "%s", said);
}
