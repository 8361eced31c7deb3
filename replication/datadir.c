#include "replication/datadir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <xxhash.h>

#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/file.h"
#include "store/base/ids.h"

#define FORMAT_TEXT "loquat data directory\nformat %u\npartitions %u\nid %32s\n"
#define CLUSTER_TEXT "cluster %32s\nnode %llu\n"

#define SUM_TEXT "sum %016" PRIx64 "\n"

enum {
    ID_SIZE = 32,
    SUM_SIZE = 16,
    FORMAT_MAX = 4096,
    START_BYTES = 40 << 20, /* free when a node starts: a segment of the journal, and some more */
};

static int join(char out[DATADIR_PATH_MAX], const char *dir, const char *name)
{
    int n = snprintf(out, DATADIR_PATH_MAX, "%s/%s", dir, name);
    return n > 0 && n < DATADIR_PATH_MAX ? 0 : ERR_TOO_LARGE;
}

static int lock(struct datadir *dir, const char *path, char *why, size_t size)
{
    char file[DATADIR_PATH_MAX];
    if (join(file, path, "LOCK") != 0)
        return ERR_TOO_LARGE;
    dir->lock_fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (dir->lock_fd < 0) {
        snprintf(why, size, "%s: %s", file, strerror(errno));
        return ERR_IO;
    }
    if (flock(dir->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        snprintf(why, size, "%s is in use by another process; stop that one first", path);
        return ERR_LOCKED;
    }
    return 0;
}

static bool directory_empty(const char *path)
{
    DIR *stream = opendir(path);
    if (stream == NULL)
        return false;
    bool empty = true;
    struct dirent *entry;
    while ((entry = readdir(stream)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            strcmp(entry->d_name, "LOCK") != 0 && strcmp(entry->d_name, "lost+found") != 0 &&
            strcmp(entry->d_name, "secret") != 0)
            empty = false;
    closedir(stream);
    return empty;
}

static bool take_word(const char **at, const char *word)
{
    size_t n = strlen(word);
    if (strncmp(*at, word, n) != 0)
        return false;
    *at += n;
    return true;
}

/* "name 17\n" */
static bool take_number(const char **at, const char *name, unsigned long *number)
{
    if (!take_word(at, name) || **at < '0' || **at > '9')
        return false;
    char *end = NULL;
    *number = strtoul(*at, &end, 10);
    *at = end;
    return take_word(at, "\n");
}

/* "name 0123…\n", of ID_SIZE characters */
static bool take_id(const char **at, const char *name, char id[ID_SIZE + 1])
{
    if (!take_word(at, name) || strcspn(*at, "\n") != ID_SIZE || (*at)[ID_SIZE] != '\n')
        return false;
    memcpy(id, *at, ID_SIZE);
    id[ID_SIZE] = '\0';
    *at += ID_SIZE + 1;
    return true;
}

/* What stands behind them: the sum of all before it, or nothing, in directories of old. */
static bool sum_fits(const char *text, const char *at)
{
    char line[SUM_SIZE + 8];
    if (*at == 0)
        return true;
    snprintf(line, sizeof line, SUM_TEXT, XXH3_64bits(text, (size_t)(at - text)));
    return strcmp(at, line) == 0;
}

/* 0, ERR_NOT_FOUND, or what is wrong with it. */
static int read_format(struct datadir *dir, const char *path, char *why, size_t size)
{
    char file[DATADIR_PATH_MAX], text[FORMAT_MAX + 1] = {0};
    struct buf bytes = {0};
    if (join(file, path, "FORMAT") != 0)
        return ERR_TOO_LARGE;
    int err = file_read(file, FORMAT_MAX, &bytes, NULL);
    if (err == ERR_IO) {
        int problem = errno;
        buf_close(&bytes);
        if (problem == ENOENT)
            return ERR_NOT_FOUND;
        snprintf(why, size, "%s: %s", file, strerror(problem));
        return ERR_IO;
    }
    if (err == 0 && bytes.n > 0)
        memcpy(text, bytes.p, bytes.n);
    buf_close(&bytes);
    unsigned long format = 0, partitions = 0, node = 0;
    const char *at = text;
    if (!take_word(&at, "loquat data directory\n") || !take_number(&at, "format ", &format)) {
        snprintf(why, size,
                 "%s is damaged: it does not begin as it should; restore it from a backup", file);
        return ERR_CORRUPT;
    }
    if (format < DATADIR_FORMAT_OLDEST || format > DATADIR_FORMAT_NEWEST) {
        snprintf(why, size,
                 "%s has format %lu, this program knows %d; run the version that wrote it%s", path,
                 format, DATADIR_FORMAT_NEWEST,
                 format < DATADIR_FORMAT_OLDEST
                     ? ", export with `loquat-log export` and import here"
                     : ", or a newer one: it was raised, and there is no way back");
        return ERR_VERSION;
    }
    bool fine = take_number(&at, "partitions ", &partitions) && partitions != 0 &&
                partitions <= PARTITIONS_MAX && take_id(&at, "id ", dir->id);
    if (fine && format >= DATADIR_FORMAT_CLUSTER)
        fine =
            take_id(&at, "cluster ", dir->cluster) && take_number(&at, "node ", &node) && node != 0;
    else if (fine)
        datadir_join(dir, dir->id, 1);
    if (!fine || !sum_fits(text, at)) {
        snprintf(why, size, "%s is damaged; restore it from a backup", file);
        return ERR_CORRUPT;
    }
    dir->format = (unsigned)format;
    dir->partitions = (uint32_t)partitions;
    if (format >= DATADIR_FORMAT_CLUSTER)
        dir->node = node;
    return 0;
}

static bool is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int check_existing(struct datadir *dir, const char *path, uint32_t partitions, char *why,
                          size_t size)
{
    if (partitions != 0 && partitions != dir->partitions) {
        snprintf(why, size,
                 "%s was made with %u partitions and can't be opened with %u: the number is fixed "
                 "when a directory is made",
                 path, dir->partitions, partitions);
        return ERR_BAD_REQUEST;
    }
    const char *log = dir->format < DATADIR_FORMAT ? dir->raft : dir->journal;
    if (!is_directory(log) || !is_directory(dir->data)) {
        snprintf(why, size, "%s is damaged: %s is missing; restore it from a backup", path,
                 is_directory(log) ? dir->data : log);
        return ERR_CORRUPT;
    }
    return 0;
}

/* What is there, without touching it: 0 a directory of ours that can be opened (or made, then
 * dir->fresh is set), or what is wrong. */
static int inspect(struct datadir *dir, const char *path, uint32_t partitions, int create,
                   char *why, size_t size)
{
    int err = read_format(dir, path, why, size);
    if (err == 0) {
        dir->fresh = 0;
        return check_existing(dir, path, partitions, why, size);
    }
    if (err != ERR_NOT_FOUND)
        return err;
    /* A first start that was cut short leaves databases but no FORMAT; nothing in them was ever
     * acknowledged. Anything else in the way is not ours. */
    char begun[DATADIR_PATH_MAX];
    err = join(begun, path, "BEGUN");
    if (err == 0 && (!create || (access(begun, F_OK) != 0 && !directory_empty(path)))) {
        snprintf(why, size, "%s holds no loquat data (no FORMAT file)%s", path,
                 create ? " and is not empty; choose another directory" : "");
        return ERR_NOT_FOUND;
    }
    dir->fresh = 1;
    return err;
}

static int begin(struct datadir *dir, const char *path, uint32_t partitions, char *why, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char random[16];
    random_bytes(random, sizeof random);
    for (size_t i = 0; i < 16; i++) {
        dir->id[2 * i] = digits[random[i] >> 4];
        dir->id[2 * i + 1] = digits[random[i] & 15];
    }
    dir->id[ID_SIZE] = 0;
    datadir_join(dir, dir->id, 1);
    dir->partitions = partitions != 0 ? partitions : PARTITIONS_DEFAULT;
    char file[DATADIR_PATH_MAX];
    if (join(file, path, "BEGUN") != 0)
        return ERR_TOO_LARGE;
    /* Its name is there before any other one is, also after a power cut. */
    int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || file_sync_directory(path) != 0) {
        snprintf(why, size, "%s: %s", file, strerror(errno));
        if (fd >= 0)
            close(fd);
        return ERR_IO;
    }
    close(fd);
    return 0;
}

void datadir_join(struct datadir *dir, const char *cluster, uint64_t node)
{
    memmove(dir->cluster, cluster, sizeof dir->cluster);
    dir->node = node;
    dir->format = DATADIR_FORMAT;
}

bool datadir_alone(const struct datadir *dir)
{
    return strcmp(dir->cluster, dir->id) == 0;
}

bool datadir_newest(const struct datadir *dir)
{
    return dir->format == DATADIR_FORMAT_NEWEST;
}

int datadir_open(struct datadir *dir, const char *path, uint32_t partitions, int create, char *why,
                 size_t size)
{
    *dir = (struct datadir){.lock_fd = -1};
    int err = join(dir->journal, path, "journal");
    if (err == 0)
        err = join(dir->raft, path, "raft");
    if (err == 0)
        err = join(dir->data, path, "data");
    if (err == 0)
        err = join(dir->scratch, path, "flush.tmp");
    if (err == 0)
        err = join(dir->index, path, "index");
    if (err != 0) {
        snprintf(why, size, "the path is too long");
        return err;
    }
    if (create && mkdir(path, 0700) != 0 && errno != EEXIST) {
        snprintf(why, size, "%s: %s", path, strerror(errno));
        return ERR_IO;
    }
    if (!is_directory(path)) {
        snprintf(why, size, "%s is not a directory", path);
        return ERR_NOT_FOUND;
    }
    err = inspect(dir, path, partitions, create, why, size); /* before LOCK is put there */
    if (err == 0)
        err = lock(dir, path, why, size);
    if (err == 0) /* again: another process may have made or changed it until the lock was ours */
        err = inspect(dir, path, partitions, create, why, size);
    if (err == 0 && dir->fresh)
        err = begin(dir, path, partitions, why, size);
    if (err != 0)
        datadir_close(dir);
    return err;
}

/* In place of the one that is there, if any: whole, or not at all. */
static int write_format(const struct datadir *dir, unsigned format, const char *path)
{
    char file[DATADIR_PATH_MAX], parent[DATADIR_PATH_MAX];
    struct buf text = {0};
    int err = join(file, path, "FORMAT");
    buf_addf(&text, FORMAT_TEXT, format, dir->partitions, dir->id);
    buf_addf(&text, CLUSTER_TEXT, dir->cluster, (unsigned long long)dir->node);
    buf_addf(&text, SUM_TEXT, XXH3_64bits(text.p, text.n));
    if (err == 0)
        err = file_replace(file, buf_span(&text));
    buf_close(&text);
    /* Its own name as well, if it was made here. What must not or can't be synced had it before. */
    if (err == 0)
        err = join(parent, path, "..");
    if (err == 0 && file_sync_directory(parent) != 0 && errno == EIO)
        err = ERR_IO;
    return err;
}

int datadir_commit(struct datadir *dir, const char *path, char *why, size_t size)
{
    char half[DATADIR_PATH_MAX];
    int err = join(half, path, "BEGUN");
    if (err == 0)
        err = write_format(dir, dir->format, path);
    if (err != 0)
        snprintf(why, size, "%s: %s", path, strerror(errno));
    else
        unlink(half);
    return err;
}

int datadir_raise(const struct datadir *dir, unsigned format, const char *path, char *why,
                  size_t size)
{
    int err = write_format(dir, format, path);
    if (err != 0)
        snprintf(why, size, "%s: %s", path, strerror(errno));
    return err;
}

void datadir_close(struct datadir *dir)
{
    if (dir->lock_fd >= 0)
        close(dir->lock_fd); /* gives the lock up */
    dir->lock_fd = -1;
}

uint64_t datadir_free_bytes(const char *path)
{
    struct statvfs fs;
    if (statvfs(path, &fs) != 0)
        return UINT64_MAX;
    return (uint64_t)fs.f_bavail * fs.f_frsize;
}

int datadir_check_room(const char *path, char *why, size_t size)
{
    uint64_t room = datadir_free_bytes(path), need = START_BYTES;
    if (room >= need)
        return 0;
    snprintf(
        why, size,
        "%s: the disk is full: %llu bytes are free, a start needs %llu; make room and start again",
        path, (unsigned long long)room, (unsigned long long)need);
    return ERR_NO_SPACE;
}
