/* power ROUNDS: a node under load is killed, and the directory then loses what a power cut may
 * take: of what was written and not synced some bytes, whole sectors, or all; names that came, went
 * or were exchanged without a sync of their directory stand as before, or not, each for itself.
 * Then the node starts, what was acknowledged is there under its sequence, and all readers agree.
 * What was synced is seen by functions that stand before libc's. Prints the seed; LOQUAT_SEED
 * replays its choices. The last line, `N passed, N failed`, counts rounds. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
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
    CONVS = 4, /* message n goes to conversation n % CONVS */
    WINDOW = 32,
    DIRS = 4, /* the parent of the directory, the directory, raft/, data/ */
    NAMES_MAX = 1024,
    NAME_ROOM = 64,
    FILES_MAX = 16384,
    SECTOR = 512,
    IN_PLACE_MAX = 4096, /* WATERMARK: written in place */
    ROUNDS_MAX = 10000,
    EARLY_MS = 150,
    KILL_AFTER_MS = 250,
    ANSWER_S = 60,
    TEXT = 500,
    PATH_ROOM = SCRATCH_MAX + 128,
    FULL_PATH = 2048,
};

struct name {
    char name[NAME_ROOM];
    ino_t inode;
};

/* Shared with the process that is killed. */
static struct shared {
    struct {
        ino_t inode;
        off_t size; /* what a sync has covered */
    } files[FILES_MAX];
    size_t file_count;
    struct listing {
        struct name names[NAMES_MAX];
        size_t count;
    } dirs[DIRS][2]; /* as they were synced: [which], the other one is being written */
    atomic_uint which[DIRS];
    char mark[IN_PLACE_MAX];
    size_t mark_size;
    atomic_ulong acknowledged; /* messages 0 … n - 1 */
} * shared;

static struct {
    unsigned long bytes, sectors, files, names_gone, names_back;
} lost;

static char root[SCRATCH_MAX], paths[DIRS][PATH_ROOM], grave[PATH_ROOM], convs[CONVS][64];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint64_t seed;

static uint64_t roll(uint64_t sides)
{
    return dice_roll(&seed, sides);
}

/* ---- what is on the disk ---- */

static int dir_of(const char *path)
{
    for (int i = 0; i < DIRS; i++)
        if (strcmp(path, paths[i]) == 0)
            return i;
    return -1;
}

/* LOCK, and RocksDB's own log, are nothing that anybody reads. */
static bool matters(int dir, const char *name)
{
    if (dir == 0)
        return strcmp(name, "data") == 0;
    return strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strncmp(name, "LOG", 3) != 0 &&
           strcmp(name, "LOCK") != 0 && strcmp(name, "control.sock") != 0 &&
           strlen(name) < NAME_ROOM;
}

static void list_dir(int dir, struct listing *listing)
{
    listing->count = 0;
    DIR *stream = opendir(paths[dir]);
    if (stream == NULL)
        return;
    struct dirent *entry;
    while ((entry = readdir(stream)) != NULL) {
        if (!matters(dir, entry->d_name))
            continue;
        ASSERT(listing->count < NAMES_MAX);
        struct name *name = &listing->names[listing->count++];
        snprintf(name->name, NAME_ROOM, "%.*s", NAME_ROOM - 1, entry->d_name);
        name->inode = entry->d_ino;
    }
    closedir(stream);
}

static const struct name *find_name(const struct listing *listing, const char *name)
{
    for (size_t i = 0; i < listing->count; i++)
        if (strcmp(listing->names[i].name, name) == 0)
            return &listing->names[i];
    return NULL;
}

static const struct listing *synced_names(int dir)
{
    return &shared->dirs[dir][atomic_load(&shared->which[dir])];
}

/* Whole, or not at all: the process may be killed meanwhile. */
static void note_names(int dir, const struct listing *listing)
{
    unsigned next = atomic_load(&shared->which[dir]) ^ 1;
    shared->dirs[dir][next] = *listing;
    atomic_store(&shared->which[dir], next);
}

static off_t *synced_size(ino_t inode)
{
    for (size_t i = 0; i < shared->file_count; i++)
        if (shared->files[i].inode == inode)
            return &shared->files[i].size;
    return NULL;
}

static void note_file(ino_t inode, off_t size)
{
    off_t *known = synced_size(inode);
    if (known == NULL) {
        ASSERT(shared->file_count < FILES_MAX);
        shared->files[shared->file_count].inode = inode;
        known = &shared->files[shared->file_count++].size;
        *known = 0;
    }
    if (size > *known)
        *known = size;
}

/* ---- functions that stand before libc's ---- */

static int real_sync(long call, int fd)
{
    return (int)syscall(call, fd);
}

static bool is_mark(const char *path)
{
    size_t n = strlen(path);
    return n > 10 && strcmp(path + n - 10, "/WATERMARK") == 0;
}

/* What counts is what was there before the sync, once that is over. */
static int sync_by(long call, int fd)
{
    static _Thread_local struct listing before;
    char link[32], path[PATH_ROOM] = "", mark[IN_PLACE_MAX];
    struct stat st;
    if (shared == NULL || fstat(fd, &st) != 0)
        return real_sync(call, fd);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1), marked = 0;
    path[n > 0 ? n : 0] = 0;
    int dir = S_ISDIR(st.st_mode) ? dir_of(path) : -1;
    if (dir >= 0)
        list_dir(dir, &before);
    if (is_mark(path))
        marked = pread(fd, mark, sizeof mark, 0);
    int rv = real_sync(call, fd);
    if (rv != 0)
        return rv;
    pthread_mutex_lock(&mutex);
    if (S_ISREG(st.st_mode))
        note_file(st.st_ino, st.st_size);
    if (dir >= 0)
        note_names(dir, &before);
    if (marked > 0) {
        memcpy(shared->mark, mark, (size_t)marked);
        shared->mark_size = (size_t)marked;
    }
    pthread_mutex_unlock(&mutex);
    return 0;
}

__attribute__((visibility("default"))) int fdatasync(int fd)
{
    return sync_by(SYS_fdatasync, fd);
}

__attribute__((visibility("default"))) int fsync(int fd)
{
    return sync_by(SYS_fsync, fd);
}

/* A file that loses its name is kept, so that it can get it back. */
static void keep(const char *path)
{
    char other[FULL_PATH];
    struct stat st;
    if (shared == NULL || strncmp(path, paths[1], strlen(paths[1])) != 0 || lstat(path, &st) != 0 ||
        !S_ISREG(st.st_mode))
        return;
    snprintf(other, sizeof other, "%s/%lu", grave, (unsigned long)st.st_ino);
    syscall(SYS_link, path, other);
}

__attribute__((visibility("default"))) int unlink(const char *path)
{
    keep(path);
    return (int)syscall(SYS_unlink, path);
}

__attribute__((visibility("default"))) int rename(const char *from, const char *to)
{
    keep(to);
    keep(from);
    return (int)syscall(SYS_rename, from, to);
}

/* ---- the cut ---- */

static void bring_back(int dir, const struct name *name)
{
    char from[FULL_PATH], to[FULL_PATH];
    snprintf(from, sizeof from, "%s/%lu", grave, (unsigned long)name->inode);
    snprintf(to, sizeof to, "%s/%s", paths[dir], name->name);
    if (syscall(SYS_link, from, to) == 0)
        lost.names_back++;
}

static void cut_names(int dir)
{
    static struct listing now;
    const struct listing *synced = synced_names(dir);
    char path[FULL_PATH];
    list_dir(dir, &now);
    for (size_t i = 0; i < now.count; i++) {
        const struct name *name = &now.names[i], *old = find_name(synced, name->name);
        if ((old != NULL && old->inode == name->inode) || roll(2) == 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", paths[dir], name->name);
        scratch_remove(path); /* with what is in it, when it is a directory */
        lost.names_gone++;
        if (old != NULL)
            bring_back(dir, old);
    }
    for (size_t i = 0; i < synced->count; i++)
        if (find_name(&now, synced->names[i].name) == NULL && roll(2) == 0)
            bring_back(dir, &synced->names[i]);
}

/* The end of a file that was not synced: it ends anywhere in it, and sectors are not there. */
static void cut_tail(const char *path, off_t synced, off_t size)
{
    static const char zeros[SECTOR];
    off_t end = synced + (off_t)roll((uint64_t)(size - synced) + 1);
    if (roll(2) == 0)
        end = end / SECTOR * SECTOR < synced ? synced : end / SECTOR * SECTOR;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ASSERT(fd >= 0);
    int rv = ftruncate(fd, end);
    ASSERT(rv == 0);
    lost.bytes += (unsigned long)(size - end);
    lost.files++;
    bool torn = roll(2) == 0;
    for (off_t at = synced; torn && at < end;) {
        off_t until = (at / SECTOR + 1) * SECTOR < end ? (at / SECTOR + 1) * SECTOR : end;
        if (roll(2) == 0) {
            ssize_t n = pwrite(fd, zeros, (size_t)(until - at), at);
            ASSERT(n == until - at);
            lost.sectors++;
        }
        at = until;
    }
    close(fd);
}

static void cut_mark(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ASSERT(fd >= 0);
    for (size_t at = 0; at < shared->mark_size; at += SECTOR) {
        size_t n = shared->mark_size - at < SECTOR ? shared->mark_size - at : SECTOR;
        if (roll(2) == 0) {
            ssize_t put = pwrite(fd, shared->mark + at, n, (off_t)at);
            ASSERT(put == (ssize_t)n);
        }
    }
    close(fd);
}

static void cut_files(int dir)
{
    static struct listing now;
    list_dir(dir, &now);
    for (size_t i = 0; i < now.count; i++) {
        char path[FULL_PATH];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", paths[dir], now.names[i].name);
        if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
            continue;
        const off_t *synced = synced_size(st.st_ino);
        off_t size = synced == NULL ? 0 : *synced;
        if (st.st_size > size)
            cut_tail(path, size, st.st_size);
        if (is_mark(path))
            cut_mark(path);
    }
}

/* From here on what is there is on the disk. */
static void settle(void)
{
    static struct listing now;
    shared->file_count = 0;
    for (int d = 0; d < DIRS; d++) {
        list_dir(d, &now);
        note_names(d, &now);
        for (size_t i = 0; i < now.count; i++) {
            char path[FULL_PATH];
            struct stat st;
            snprintf(path, sizeof path, "%s/%s", paths[d], now.names[i].name);
            if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
                continue;
            note_file(st.st_ino, st.st_size);
        }
    }
    shared->mark_size = 0;
    char path[FULL_PATH];
    snprintf(path, sizeof path, "%s/WATERMARK", paths[1]);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    shared->mark_size = fread(shared->mark, 1, sizeof shared->mark, file);
    fclose(file);
}

static void cut(void)
{
    for (int d = 0; d < DIRS; d++)
        cut_names(d);
    for (int d = 1; d < DIRS; d++)
        cut_files(d);
    settle();
    scratch_remove(grave);
    int rv = mkdir(grave, 0700);
    ASSERT(rv == 0);
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
    uint64_t first = atomic_load(&shared->acknowledged), first_id = link->next_id;
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
        atomic_store(&shared->acknowledged, done);
        arena_reset(&link->arena);
    }
}

static void victim(void)
{
    struct node_config config = {
        .dir = paths[1], .partitions = 2, .disk_reserve = 1, .memtable_bytes = 64 << 10};
    struct node *node = NULL;
    char why[1024] = "";
    struct nodelink link;
    alarm(ANSWER_S);
    need(node_start(&config, &node, why, sizeof why) == 0, why, 0);
    nodelink_open(&link, node_connect(node));
    open_convs(&link);
    check_all(&link, atomic_load(&shared->acknowledged));
    write_on(&link);
}

/* ---- rounds ---- */

static bool run_round(unsigned number)
{
    uint64_t before = atomic_load(&shared->acknowledged), kill_us;
    bool early = roll(4) == 0;
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
    while (!early && atomic_load(&shared->acknowledged) == before && ended == 0) {
        usleep(500); /* there is no other event in a process that must not be looked into */
        ended = waitpid(pid, &status, WNOHANG);
    }
    usleep((useconds_t)kill_us);
    if (ended == 0) {
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
    }
    bool fine = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    cut();
    printf("round %u: cut %llu ms after %s, %lu acknowledged, %s\n", number,
           (unsigned long long)kill_us / 1000, early ? "the start" : "the first answer",
           atomic_load(&shared->acknowledged), fine ? "ok" : "FAIL");
    return fine;
}

int main(int argc, char **argv)
{
    long rounds = dice_rounds("power", argc, argv, ROUNDS_MAX, &seed), done = 0;
    scratch_make(root);
    snprintf(paths[0], PATH_ROOM, "%s", root);
    snprintf(paths[1], PATH_ROOM, "%s/data", root);
    snprintf(paths[2], PATH_ROOM, "%s/data/raft", root);
    snprintf(paths[3], PATH_ROOM, "%s/data/data", root);
    snprintf(grave, sizeof grave, "%s/grave", root);
    int rv = mkdir(grave, 0700);
    ASSERT(rv == 0);
    for (int i = 0; i < CONVS; i++) {
        char cid[16];
        snprintf(cid, sizeof cid, "open%d", i);
        group_id(span_str("ann"), span_str(cid), convs[i]);
    }
    void *room =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bool mapped = room != MAP_FAILED;
    ASSERT(mapped);
    shared = room;
    bool fine = true;
    while (fine && done < rounds) /* what follows a failure would only tell it again */
        fine = run_round((unsigned)++done);
    printf("lost: %lu bytes of %lu files, %lu sectors torn out, %lu names gone, %lu back\n",
           lost.bytes, lost.files, lost.sectors, lost.names_gone, lost.names_back);
    struct shared *p = shared;
    shared = NULL;
    munmap(p, sizeof *p);
    if (fine)
        scratch_remove(root);
    else
        printf("the directory is kept: %s\n", root);
    printf("%ld passed, %d failed\n", fine ? done : done - 1, !fine);
    return fine ? 0 : 1;
}
