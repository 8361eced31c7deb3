/* flips ROUNDS: one bit of a data directory at rest flips, at a random place of a random file,
 * after real traffic. Then either the start is refused with a message that says what is damaged and
 * what to do, or reads of what is damaged are refused and `loquat-compact verify` names it, or the
 * bit did not matter: every answer is what it was before. Never is anything else served, never does
 * anything go in silence. Prints a table of what happened to which kind of file. Prints the seed;
 * LOQUAT_SEED replays its choices. The last line, `N passed, N failed`, counts rounds. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include "replication/node.h"
#include "replication/roster.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/ids.h"
#include "store/base/log.h"
#include "tests/lib/dice.h"
#include "tests/lib/nodelink.h"
#include "tests/lib/scratch.h"

enum {
    CONVS = 4,
    USERS = 2,
    LIVES = 3,
    LIFE_RECORDS = 6000, /* so many that what a start has to recall is not everything */
    SEQ_MAX = LIVES * LIFE_RECORDS + 16,
    VIEWS = 3, /* upwards, downwards, folded */
    WINDOW = 50,
    FILES_MAX = 256,
    ROUNDS_MAX = 100000,
    ANSWER_S = 60, /* a child that needs longer hangs */
    SAID_MAX = 4096,
    PATH_ROOM = SCRATCH_MAX + 128,
};

enum outcome { HARMLESS, REFUSED, TOLD, SLEEPING, WRONG, OUTCOMES };
static const char *const outcome_names[OUTCOMES] = {"no matter", "start refused", "reads refused",
                                                    "only verify saw it", "WRONG"};

static const struct kind {
    const char *name, *part, *prefix, *suffix;
    unsigned weight;
} kinds[] = {
    {"journal", "journal/", "", ".log", 12},       {"data SST", "data/", "", ".sst", 6},
    {"data MANIFEST", "data/", "MANIFEST", "", 3}, {"data CURRENT", "data/", "CURRENT", "", 1},
    {"data OPTIONS", "data/", "OPTIONS", "", 1},   {"FORMAT", "", "FORMAT", "", 3},
    {"WATERMARK", "", "WATERMARK", "", 2},         {"ROSTER", "", "ROSTER", "", 2},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

struct answers {
    uint64_t head[CONVS];
    uint64_t item[CONVS][VIEWS][SEQ_MAX]; /* XXH3 of what is served under a sequence; 0: nothing */
    uint64_t info[CONVS][USERS];
    bool refused[CONVS][VIEWS]; /* a page was: the rest of the view is not looked at */
    unsigned refusals;
    bool started, ended;
    char why[SAID_MAX];
};

static char root[SCRATCH_MAX], dir[PATH_ROOM], said_path[PATH_ROOM], program[PATH_ROOM];
static char convs[CONVS][64];
static char *const users[USERS] = {(char[]){"ann"}, (char[]){"bob"}};
static struct answers *want, *got; /* shared with children */
static uint64_t seed;
static unsigned table[KINDS][OUTCOMES];

static uint64_t roll(uint64_t sides)
{
    return dice_roll(&seed, sides);
}

/* ---- children ---- */

/* What `work` says on standard error is in said_path then. The status of waitpid. */
static int in_process(void (*work)(void))
{
    fflush(stdout);
    pid_t pid = fork();
    ASSERT(pid >= 0);
    if (pid == 0) {
        int fd = open(said_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        ASSERT(fd >= 0);
        dup2(fd, 1);
        dup2(fd, 2);
        alarm(ANSWER_S);
        work();
        _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return status;
}

static void read_said(char said[SAID_MAX])
{
    FILE *file = fopen(said_path, "re");
    ASSERT(file != NULL);
    said[fread(said, 1, SAID_MAX - 1, file)] = 0;
    fclose(file);
}

static struct node *start(char *why, size_t size)
{
    static bool first = true;
    struct node_config config = {.dir = dir,
                                 .partitions = first && !scratch_has(dir, "FORMAT") ? 2 : 0,
                                 .disk_reserve = 1,
                                 .memtable_bytes = 256 << 10};
    struct node *node = NULL;
    first = false;
    return node_start(&config, &node, why, size) == 0 ? node : NULL;
}

/* ---- traffic ---- */

static void open_convs(struct nodelink *link)
{
    for (int i = 0; i < CONVS; i++) {
        char cid[16], id[64];
        snprintf(cid, sizeof cid, "open%d", i);
        char *members[USERS] = {users[0], users[1]};
        Loquat__Command command = command_open_group(users[0], cid, id, members, USERS);
        Loquat__Reply *reply = nodelink_do(link, &command);
        ASSERT(reply != NULL && reply->err == 0);
    }
}

static void write_one(struct nodelink *link, unsigned life, unsigned n)
{
    char cid[32], body[400];
    const char *conv = convs[n % CONVS];
    int head = snprintf(body, sizeof body, "{\"text\":\"%u of %u ", n, life);
    for (size_t i = (size_t)head; i < 300; i++)
        body[i] = (char)('a' + roll(26));
    memcpy(body + 300, "\"}", 3);
    snprintf(cid, sizeof cid, "%u-%u", life, n);
    Loquat__Command command = command_send(users[n / CONVS % USERS], conv, cid, body);
    if (n % 16 == 8 + n % CONVS) /* of the first ones, that ann wrote */
        command = command_edit(users[0], conv, cid, 2, body);
    else if (n % 64 == 40 + n % CONVS)
        command = command_mark(users[1], conv, n / CONVS, n / CONVS);
    nodelink_write(link, &command);
}

static bool take_reply(struct nodelink *link)
{
    int type = 0;
    struct span body;
    bool open = nodelink_next(link, &type, &body);
    ASSERT(open);
    if (type != LINK_REPLY)
        return false;
    Loquat__Reply *reply =
        loquat__reply__unpack(&link->arena.allocator, body.n, (const uint8_t *)body.p);
    if (reply == NULL || reply->err != 0)
        fprintf(stderr, "a write failed: %s\n", reply == NULL ? "?" : reply->msg);
    ASSERT(reply != NULL && reply->err == 0);
    return true;
}

static unsigned life_number;

/* Everything that was sent is acknowledged when the process goes. */
static void live(void)
{
    char why[SAID_MAX];
    struct node *node = start(why, sizeof why);
    ASSERT(node != NULL);
    struct nodelink link;
    nodelink_open(&link, node_connect(node));
    open_convs(&link);
    for (unsigned n = 0; n < LIFE_RECORDS;) {
        for (unsigned i = 0; i < WINDOW; i++, n++)
            write_one(&link, life_number, n);
        nodelink_flush(&link);
        for (unsigned i = 0; i < WINDOW;)
            i += take_reply(&link);
        arena_reset(&link.arena);
    }
    raise(SIGKILL);
}

static void stop_orderly(void)
{
    char why[SAID_MAX];
    struct node *node = start(why, sizeof why);
    ASSERT(node != NULL);
    node_stop(node);
}

/* ---- what is served ---- */

static uint64_t item_sum(const Loquat__Item *item)
{
    uint64_t sum = XXH3_64bits_withSeed(item->record.data, item->record.len, item->last);
    sum = XXH3_64bits_withSeed(item->body.data, item->body.len, sum + item->hole);
    return (sum ^ item->edited * 31 ^ item->replies * 37) | 1;
}

static bool refused(const Loquat__Reply *reply)
{
    if (reply->err == 0)
        return false;
    if (reply->err != ERR_INTERNAL && reply->err != ERR_CORRUPT)
        fprintf(stderr, "a read was answered %s: %s\n", err_name(reply->err), reply->msg);
    ASSERT(reply->err == ERR_INTERNAL || reply->err == ERR_CORRUPT);
    got->refusals++;
    return true;
}

static void read_view(struct nodelink *link, int conv, int view)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_RANGE;
    read.user = users[0];
    read.conv = convs[conv];
    read.desc = view == 1;
    read.folded = view == 2;
    read.max = 100;
    read.from = read.desc ? 0 : 1;
    do {
        arena_reset(&link->arena);
        Loquat__Reply *reply = nodelink_reply(link, nodelink_read(link, &read, convs[conv]));
        ASSERT(reply != NULL);
        if (refused(reply)) {
            got->refused[conv][view] = true;
            return;
        }
        got->head[conv] = reply->head;
        for (size_t i = 0; i < reply->n_items; i++) {
            ASSERT(reply->items[i]->seq < SEQ_MAX);
            got->item[conv][view][reply->items[i]->seq] = item_sum(reply->items[i]);
        }
        read.from = reply->next;
    } while (read.from != 0);
}

static void read_info(struct nodelink *link, int conv, int user)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    char *asked[1] = {convs[conv]};
    read.op = LOQUAT__READ_OP__READ_CONVS;
    read.user = users[user];
    read.convs = asked;
    read.n_convs = 1;
    arena_reset(&link->arena);
    Loquat__Reply *reply = nodelink_reply(link, nodelink_read(link, &read, convs[conv]));
    ASSERT(reply != NULL);
    if (refused(reply) || reply->n_convs != 1)
        return;
    static uint8_t packed[1 << 16];
    size_t size = loquat__conv_info__get_packed_size(reply->convs[0]);
    ASSERT(size <= sizeof packed);
    loquat__conv_info__pack(reply->convs[0], packed);
    got->info[conv][user] = XXH3_64bits(packed, size) | 1;
}

static void look(void)
{
    struct node *node = start(got->why, sizeof got->why);
    if (node == NULL)
        _exit(1);
    got->started = true;
    struct nodelink link;
    nodelink_open(&link, node_connect(node));
    for (int c = 0; c < CONVS; c++) {
        for (int view = 0; view < VIEWS; view++)
            read_view(&link, c, view);
        for (int user = 0; user < USERS; user++)
            read_info(&link, c, user);
    }
    nodelink_close(&link);
    node_stop(node);
    got->ended = true;
}

/* NULL: all that was served is what was there before, and what is missing was refused. */
static const char *differs(void)
{
    for (int c = 0; c < CONVS; c++) {
        bool any = false;
        for (int view = 0; view < VIEWS; view++) {
            any = any || got->refused[c][view];
            for (int s = 0; s < SEQ_MAX; s++) {
                uint64_t a = want->item[c][view][s], b = got->item[c][view][s];
                if (a != b && b != 0)
                    return "something else was served";
                if (a != b && !got->refused[c][view])
                    return "something was dropped in silence";
            }
        }
        if (!any && got->head[c] != want->head[c])
            return "another head";
        for (int user = 0; user < USERS; user++)
            if (got->info[c][user] != want->info[c][user] &&
                (got->info[c][user] != 0 || got->refusals == 0))
                return "another state of the conversation";
    }
    return NULL;
}

/* ---- rounds ---- */

struct target {
    char path[PATH_ROOM];
    off_t size;
};
static struct target targets[FILES_MAX];
static size_t target_count;
static const struct kind *target_kind;

static int add_target(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    const char *name = path + strlen(dir) + 1, *base = path + ftw->base;
    size_t n = strlen(base), tail = strlen(target_kind->suffix), part = strlen(target_kind->part);
    if (type != FTW_F || st->st_size == 0 || target_count == FILES_MAX ||
        (size_t)(base - name) != part || strncmp(name, target_kind->part, part) != 0 ||
        strncmp(base, target_kind->prefix, strlen(target_kind->prefix)) != 0 || n < tail ||
        strcmp(base + n - tail, target_kind->suffix) != 0)
        return 0;
    snprintf(targets[target_count].path, PATH_ROOM, "%s", path);
    targets[target_count++].size = st->st_size;
    return 0;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct target *)a)->path, ((const struct target *)b)->path);
}

static int pick_kind(void)
{
    unsigned all = 0;
    for (int i = 0; i < KINDS; i++)
        all += kinds[i].weight;
    uint64_t at = roll(all);
    int kind = 0;
    while (at >= kinds[kind].weight)
        at -= kinds[kind++].weight;
    return kind;
}

/* Small files are mostly indexes, large ones rows: any file, or any byte. */
static const struct target *pick_target(void)
{
    uint64_t all = 0;
    if (roll(2) == 0)
        return &targets[roll(target_count)];
    for (size_t i = 0; i < target_count; i++)
        all += (uint64_t)targets[i].size;
    const struct target *target = targets;
    for (uint64_t at = roll(all); at >= (uint64_t)target->size; target++)
        at -= (uint64_t)target->size;
    return target;
}

/* Any byte; or, half of the time, one in front of the zeros that it ends with: after a crash those
 * are most of the newest segment of the journal, and nobody reads them. */
static off_t pick_byte(int fd, off_t size)
{
    static char bytes[1 << 16];
    off_t end = size;
    bool any = roll(2) == 0;
    for (bool zeros = !any; zeros && end > 0;) {
        size_t n = end < (off_t)sizeof bytes ? (size_t)end : sizeof bytes;
        ssize_t taken = pread(fd, bytes, n, end - (off_t)n);
        ASSERT(taken == (ssize_t)n);
        while (n > 0 && bytes[n - 1] == 0)
            n--, end--;
        zeros = n == 0;
    }
    return (off_t)roll((uint64_t)(end > 0 ? end : size));
}

/* False: there is no such file. */
static bool flip(int kind, char text[PATH_ROOM])
{
    char byte = 0;
    target_count = 0;
    target_kind = &kinds[kind];
    nftw(dir, add_target, 16, FTW_PHYS);
    if (target_count == 0)
        return false;
    qsort(targets, target_count, sizeof *targets, by_path);
    const struct target *target = pick_target();
    int fd = open(target->path, O_RDWR | O_CLOEXEC);
    ASSERT(fd >= 0);
    off_t at = pick_byte(fd, target->size);
    unsigned bit = (unsigned)roll(8);
    bool fine = pread(fd, &byte, 1, at) == 1;
    byte ^= (char)(1u << bit);
    fine = fine && pwrite(fd, &byte, 1, at) == 1;
    ASSERT(fine);
    close(fd);
    snprintf(text, PATH_ROOM, "%s, byte %lld of %lld, bit %u", target->path + strlen(dir) + 1,
             (long long)at, (long long)target->size, bit);
    return true;
}

static void verify(void)
{
    execl(program, program, "verify", "--data", dir, (char *)NULL);
    fprintf(stderr, "%s: %s\n", program, strerror(errno));
    _exit(127);
}

static bool says_what_to_do(const char *said)
{
    static const char *const todo[] = {"restore", "run the version", "`loquat-compact verify`"};
    bool what = false;
    for (size_t i = 0; i < sizeof todo / sizeof *todo; i++)
        what = what || strstr(said, todo[i]) != NULL;
    return what && strstr(said, dir) != NULL;
}

static enum outcome look_once(const char **what, char said[SAID_MAX])
{
    memset(got, 0, sizeof *got);
    int status = in_process(look);
    read_said(said);
    if (!got->started && WIFEXITED(status) && WEXITSTATUS(status) == 1) {
        size_t n = strlen(said);
        snprintf(said + n, SAID_MAX - n, "%s", got->why);
        *what = "it does not say what is damaged and what to do";
        return says_what_to_do(said) ? REFUSED : WRONG;
    }
    *what = "the process died";
    if (!got->ended || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return WRONG;
    *what = differs();
    return *what != NULL ? WRONG : got->refusals > 0 ? TOLD : HARMLESS;
}

/* The second start has what the first one made of it. */
static enum outcome judge(const char **what, char said[SAID_MAX])
{
    char verified[SAID_MAX];
    int status = in_process(verify);
    read_said(verified);
    bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    *what = "verify died";
    if (!WIFEXITED(status) || WEXITSTATUS(status) > 1)
        return snprintf(said, SAID_MAX, "%s", verified), WRONG;
    enum outcome first = look_once(what, said);
    if (first == WRONG || first == REFUSED)
        return first;
    enum outcome second = look_once(what, said);
    if (second == WRONG || second == REFUSED) /* what the first start did not need to look at */
        return second;
    *what = "reads are refused, and verify finds nothing";
    if (first == TOLD || second == TOLD)
        return clean ? WRONG : TOLD;
    return clean ? HARMLESS : SLEEPING;
}

static bool run_round(unsigned number)
{
    static const char *const bases[] = {"killed", "stopped"};
    char base[PATH_ROOM], text[PATH_ROOM] = "", said[SAID_MAX] = "";
    const char *from = bases[roll(2)], *what = "";
    int kind = pick_kind();
    snprintf(base, sizeof base, "%s/%s", root, from);
    snprintf(dir, sizeof dir, "%s/flipped", root);
    scratch_remove(dir);
    scratch_copy(base, dir);
    while (!flip(kind, text)) /* after an orderly stop some are empty */
        kind = pick_kind();
    enum outcome outcome = judge(&what, said);
    table[kind][outcome]++;
    if (outcome == WRONG)
        printf("    FAIL: %s\n%s\n", what, said);
    printf("round %u: %s, %s: %s\n", number, from, text, outcome_names[outcome]);
    if (outcome == REFUSED)
        printf("    %s\n", got->why);
    return outcome != WRONG;
}

static void *share(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bool mapped = p != MAP_FAILED;
    ASSERT(mapped);
    return p;
}

/* DIR/killed: as a crash left it; DIR/stopped: the same, stopped orderly; and what is served. */
static void make_bases(void)
{
    char other[PATH_ROOM], said[SAID_MAX];
    snprintf(dir, sizeof dir, "%s/killed", root);
    for (life_number = 0; life_number < LIVES; life_number++) {
        int status = in_process(live);
        roll(2); /* another text in the next life */
        bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
        read_said(said);
        if (!killed)
            printf("%s\n", said);
        ASSERT(killed);
    }
    int err = roster_put_drained(dir, false); /* makes ROSTER, which a node that is alone has not */
    ASSERT(err == 0);
    snprintf(other, sizeof other, "%s/stopped", root);
    scratch_copy(dir, other);
    snprintf(dir, sizeof dir, "%s", other);
    int status = in_process(stop_orderly);
    ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    snprintf(other, sizeof other, "%s/reference", root);
    scratch_copy(dir, other);
    snprintf(dir, sizeof dir, "%s", other);
    status = in_process(look);
    ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 0 && got->ended && got->refusals == 0);
    *want = *got;
    for (int c = 0; c < CONVS; c++)
        ASSERT(want->head[c] > LIVES * LIFE_RECORDS / CONVS / 2 && want->info[c][0] != 0);
}

static void print_table(void)
{
    printf("%-14s", "");
    for (int o = 0; o < OUTCOMES; o++)
        printf("  %s", outcome_names[o]);
    for (int k = 0; k < KINDS; k++) {
        printf("\n%-14s", kinds[k].name);
        for (int o = 0; o < OUTCOMES; o++)
            printf("  %*u", (int)strlen(outcome_names[o]), table[k][o]);
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    long rounds = dice_rounds("flips", argc, argv, ROUNDS_MAX, &seed);
    const char *slash = strrchr(argv[0], '/');
    int n = snprintf(program, sizeof program, "%.*s/../../loquat-compact",
                     slash == NULL ? 1 : (int)(slash - argv[0]), slash == NULL ? "." : argv[0]);
    ASSERT(n > 0 && n < (int)sizeof program);
    scratch_make(root);
    snprintf(said_path, sizeof said_path, "%s/said", root);
    want = share(sizeof *want);
    got = share(sizeof *got);
    for (int i = 0; i < CONVS; i++) {
        char cid[16];
        snprintf(cid, sizeof cid, "open%d", i);
        group_id(span_str(users[0]), span_str(cid), convs[i]);
    }
    make_bases();
    unsigned failed = 0;
    for (unsigned i = 1; i <= rounds; i++)
        failed += !run_round(i);
    print_table();
    if (failed == 0)
        scratch_remove(root);
    else
        printf("the directories before the flip are kept: %s\n", root);
    printf("%ld passed, %u failed\n", rounds - (long)failed, failed);
    return failed == 0 ? 0 : 1;
}
