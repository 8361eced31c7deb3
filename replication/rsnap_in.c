/* replication/rsnap_in.c: a snapshot that comes, and takes the place of what is here: rsnap.h. */
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "replication/rsnap.h"
#include "replication/rsnap_rows.h"
#include "replication/shard_inside.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "store/key.h"
#include "store/kv_stage.h"

enum { NOTE_SIZE = 4 * 8 };

struct snap_in {
    struct shard *shard;
    uint64_t from, id, next, sum;
    bool resumed; /* from its mark, and no chunk has come since */
    uint64_t heard_ms;
    struct buf last; /* the Raft of the last chunk, packed */
    struct job job;
    bool working, dead;
    /* the apply thread's while `working` */
    struct kv_stage *stage;
    struct buf rows;
    int err;
};

static void stage_dir(const struct shard *shard, char *path)
{
    int n = snprintf(path, STAGE_PATH_MAX, "%s/snapshot.%u", shard->env->dir, shard->partition);
    ASSERT(n > 0 && n < STAGE_PATH_MAX);
}

static void remove_stage(struct shard *shard)
{
    char dir[STAGE_PATH_MAX];
    stage_dir(shard, dir);
    kv_stage_remove(dir);
}

static void in_free(struct snap_in *in)
{
    kv_stage_close(in->stage);
    buf_close(&in->last);
    buf_close(&in->rows);
    free(in);
}

static void in_drop(struct shard *shard)
{
    struct snap_in *in = shard->in;
    shard->in = NULL;
    if (in == NULL)
        return;
    in->dead = true;
    if (!in->working)
        in_free(in);
}

static int take_rows(const struct snap_in *in)
{
    struct span rows = buf_span(&in->rows);
    struct rsnap_row row;
    int more, err = 0;
    while ((more = rsnap_row_next(&rows, in->shard->partition, &row)) > 0 && err == 0)
        err = kv_stage_put(in->stage, row.cf, row.key, row.value);
    return more < 0 ? more : err;
}

/* With what is needed to go on from here after a restart. */
static int mark(struct snap_in *in)
{
    char note[NOTE_SIZE];
    put_le64(note, in->from);
    put_le64(note + 8, in->id);
    put_le64(note + 16, in->next + 1); /* the chunk that is taken now is in it */
    put_le64(note + 24, in->sum);
    return kv_stage_mark(in->stage, span_of(note, sizeof note));
}

static void call_take(struct job *job)
{
    struct snap_in *in = job->owner;
    char dir[STAGE_PATH_MAX];
    stage_dir(in->shard, dir);
    in->err = in->stage == NULL ? kv_stage_open(in->shard->env->data, dir, &in->stage) : 0;
    if (in->err == 0)
        in->err = take_rows(in);
    if (in->err == 0 && in->last.n > 0)
        in->err = kv_stage_finish(in->stage);
    else if (in->err == 0 && kv_stage_unmarked(in->stage) >= in->shard->env->mark_bytes)
        in->err = mark(in);
}

static Loquat__ChunkReply reply_to(const struct shard *shard, uint64_t to, uint64_t id)
{
    Loquat__ChunkReply reply = LOQUAT__CHUNK_REPLY__INIT;
    reply.partition = shard->partition;
    reply.from = shard->env->id;
    reply.to = to;
    reply.id = id;
    return reply;
}

static void say_next(struct shard *shard, uint64_t to, uint64_t id, uint64_t next, bool done)
{
    Loquat__ChunkReply reply = reply_to(shard, to, id);
    reply.next = next;
    reply.done = done;
    shard_say(shard, to, LINK_CHUNK_REPLY, &reply.base);
}

/* Behind which row the sender is to go on. */
static void say_resumed(struct shard *shard, const struct snap_in *in)
{
    Loquat__ChunkReply reply = reply_to(shard, in->from, in->id);
    struct span after;
    reply.family = kv_stage_last(in->stage, &after);
    reply.after = (ProtobufCBinaryData){after.n, (uint8_t *)(uintptr_t)after.p};
    reply.next = in->next;
    reply.sum = in->sum;
    shard_say(shard, in->from, LINK_CHUNK_REPLY, &reply.base);
}

struct snap_install {
    struct rlog_snapshot at;
    struct buf conf;
    uint64_t to, id; /* who is told */
    uint64_t term;   /* from then on; of one that leaves */
    struct job job;
    bool working;
    int err;
};

static void install_free(struct snap_install *install)
{
    buf_close(&install->conf);
    free(install);
}

static void on_noted(void *arg, uint64_t unused1, uint64_t unused2);

static void note(struct shard *shard)
{
    rlog_put_install(&shard->log, wal_batch(shard->env->wal), &shard->install->at);
    wal_notify(shard->env->wal, on_noted, shard, 0, 0);
}

/* The core is given the last chunk's message; if it agrees, the installation begins. */
static int give_core(struct shard *shard, struct span last, uint64_t to, uint64_t id)
{
    Loquat__Raft *message = loquat__raft__unpack(NULL, last.n, (const uint8_t *)last.p);
    int err = ERR_CORRUPT;
    if (message != NULL && message->kind == LOQUAT__RAFT_KIND__RAFT_SNAPSHOT &&
        message->from == to && message->partition == shard->partition)
        err = rcore_receive(shard->core, message, clock_mono_ms());
    if (message != NULL)
        loquat__raft__free_unpacked(message, NULL);
    struct snap_install *install = shard->install;
    if (install == NULL)
        return err;
    install->to = to;
    install->id = id;
    note(shard);
    return 0;
}

static void on_taken(struct job *job)
{
    struct snap_in *in = job->owner;
    struct shard *shard = in->shard;
    uint64_t from = in->from, id = in->id;
    in->working = false;
    if (in->dead) {
        in_free(in);
        return;
    }
    if (in->err != 0) {
        log_warn("a snapshot can't be taken; it is asked for again",
                 {"partition", log_int(shard->partition)}, {"err", log_str(err_name(in->err))},
                 {"why", log_str(kv_error())});
        in_drop(shard); /* the next chunk is of an unknown one then, and it begins anew */
        return;
    }
    in->next++;
    in->resumed = false;
    if (in->last.n == 0) {
        say_next(shard, from, id, in->next, false);
        return;
    }
    if (give_core(shard, buf_span(&in->last), from, id) != 0)
        log_warn("a snapshot came with a message that is none",
                 {"partition", log_int(shard->partition)});
    in_drop(shard);
    if (shard->install == NULL) { /* it is not needed any more */
        remove_stage(shard);
        say_next(shard, from, id, 0, true);
    }
    shard_settle(shard, clock_mono_ms());
}

static void in_begin(struct shard *shard, const Loquat__Chunk *chunk)
{
    in_drop(shard);
    struct snap_in *in = xcalloc(1, sizeof *in);
    in->shard = shard;
    in->from = chunk->from;
    in->id = chunk->id;
    in->heard_ms = clock_mono_ms();
    shard->in = in;
}

void rsnap_chunk(struct shard *shard, const Loquat__Chunk *chunk)
{
    if (chunk->term < rcore_term(shard->core) || shard->install != NULL)
        return;
    struct span last = span_of((const char *)chunk->last.data, chunk->last.len);
    if (chunk->index <= shard->applied) { /* all of it is here */
        if (last.n > 0)
            (void)give_core(shard, last, chunk->from, chunk->id);
        say_next(shard, chunk->from, chunk->id, 0, true);
        return;
    }
    if ((shard->in == NULL || shard->in->id != chunk->id) && chunk->number == 0)
        in_begin(shard, chunk);
    struct snap_in *in = shard->in;
    if (in == NULL || in->id != chunk->id) {
        say_next(shard, chunk->from, chunk->id, 0, false);
        return;
    }
    in->heard_ms = clock_mono_ms();
    if (in->working)
        return;
    if (in->next != chunk->number && in->resumed && chunk->resumes) {
        say_resumed(shard, in);
        return;
    }
    if (in->next != chunk->number) {
        say_next(shard, chunk->from, chunk->id, in->resumed ? 0 : in->next, false);
        return;
    }
    if (XXH3_64bits_withSeed(chunk->rows.data, chunk->rows.len, in->sum) != chunk->sum) {
        in_drop(shard);
        return;
    }
    in->sum = chunk->sum;
    in->rows.n = 0;
    buf_add(&in->rows, (const char *)chunk->rows.data, chunk->rows.len);
    buf_add_span(&in->last, last);
    in->working = true;
    shard_call(shard, &in->job, call_take, on_taken, in);
}

/* Nobody sends the rest any more. */
void rsnap_in_tick(struct shard *shard, uint64_t now_ms)
{
    const struct snap_in *in = shard->in;
    if (in == NULL || in->working || now_ms <= in->heard_ms + SNAPSHOT_GIVE_UP_MS)
        return;
    in_drop(shard);
    remove_stage(shard);
}

/* One that was on its way when this process ended. */
static void resume(struct shard *shard)
{
    char dir[STAGE_PATH_MAX];
    struct kv_stage *stage = NULL;
    struct buf note = {0};
    stage_dir(shard, dir);
    if (kv_stage_resume(shard->env->data, dir, &stage, &note) == 0 && note.n == NOTE_SIZE) {
        struct snap_in *in = xcalloc(1, sizeof *in);
        *in = (struct snap_in){.shard = shard,
                               .from = get_le64(note.p),
                               .id = get_le64(note.p + 8),
                               .next = get_le64(note.p + 16),
                               .sum = get_le64(note.p + 24),
                               .resumed = true,
                               .heard_ms = clock_mono_ms(),
                               .stage = stage};
        shard->in = in;
    } else {
        kv_stage_close(stage);
        remove_stage(shard);
    }
    buf_close(&note);
}

/* ---- installing ---- */

void rsnap_install(struct shard *shard, const struct rlog_snapshot *snapshot)
{
    ASSERT(shard->install == NULL);
    shard->install = xcalloc(1, sizeof *shard->install);
    buf_add_span(&shard->install->conf, snapshot->conf);
    shard->install->at = *snapshot;
    shard->install->at.conf = buf_span(&shard->install->conf);
}

bool rsnap_installing(const struct shard *shard)
{
    return shard->install != NULL;
}

static int replace_rows(struct shard *shard)
{
    char dir[STAGE_PATH_MAX];
    struct key from = key_partition(shard->partition), until = key_partition(shard->partition + 1);
    stage_dir(shard, dir);
    return kv_stage_install(shard->env->data, dir, key_span(&from), key_span(&until));
}

static void call_install(struct job *job)
{
    struct shard *shard = job->owner;
    struct snap_install *install = shard->install;
    install->err = replace_rows(shard);
    if (install->err == 0)
        install->err = apply_reload(shard->apply);
}

static void left(struct shard *shard)
{
    shard_begin_anew(shard);
    shard->left_ms = clock_mono_ms();
    log_info("the partition is kept elsewhere; what was here of it is gone",
             {"partition", log_int(shard->partition)});
}

static void on_log_begun(void *arg, uint64_t unused1, uint64_t unused2)
{
    (void)unused1, (void)unused2;
    struct shard *shard = arg;
    struct snap_install *install = shard->install;
    const struct rlog_snapshot *at = &install->at;
    shard->cuts_durable = shard->log.cuts;
    struct watermark_row row = {at->term, at->index, shard->cuts_durable};
    watermark_put(shard->env->mark, shard->partition, row);
    remove_stage(shard);
    shard->install = NULL;
    if (at->index == 0) {
        left(shard);
        install_free(install);
        return;
    }
    shard_stands_at(shard, at->index);
    rcore_installed(shard->core, at->index, at->term, at->conf_index, at->conf, clock_mono_ms());
    say_next(shard, install->to, install->id, 0, true);
    log_info("a snapshot was installed", {"partition", log_int(shard->partition)},
             {"index", log_int((int64_t)at->index)});
    install_free(install);
    shard_settle(shard, clock_mono_ms());
}

static void on_installed(struct job *job)
{
    struct shard *shard = job->owner;
    struct snap_install *install = shard->install;
    install->working = false;
    if (install->err == 0 && apply_index(shard->apply) != install->at.index)
        install->err = ERR_CORRUPT;
    if (install->err != 0)
        log_fatal("a snapshot could not be installed; the next start tries it again",
                  install->err == ERR_CORRUPT ? "it is damaged" : kv_error());
    rlog_install(&shard->log, wal_batch(shard->env->wal), &install->at);
    wal_notify(shard->env->wal, on_log_begun, shard, 0, 0);
}

/* What was pushed to the apply thread before this is done before it. */
static void on_noted(void *arg, uint64_t unused1, uint64_t unused2)
{
    (void)unused1, (void)unused2;
    struct shard *shard = arg;
    shard->install->working = true;
    shard_call(shard, &shard->install->job, call_install, on_installed, shard);
}

/* ---- leaving ---- */

static void call_stage_nothing(struct job *job)
{
    struct shard *shard = job->owner;
    struct kv_stage *stage = NULL;
    char dir[STAGE_PATH_MAX];
    stage_dir(shard, dir);
    int err = kv_stage_open(shard->env->data, dir, &stage);
    if (err == 0)
        err = kv_stage_finish(stage);
    kv_stage_close(stage);
    shard->install->err = err;
}

static void on_nothing_staged(struct job *job)
{
    struct shard *shard = job->owner;
    struct snap_install *install = shard->install;
    install->working = false;
    if (install->err == 0) {
        /* What it said in its term before may still be on its way to who leads: so that nobody
         * counts on that, if it is taken in again, it is in a later one from now on. */
        rlog_put_hard(&shard->log, wal_batch(shard->env->wal), install->term, 0);
        note(shard);
        return;
    }
    log_warn("what is here of a partition that is kept elsewhere can't be removed now; it is tried "
             "again",
             {"partition", log_int(shard->partition)}, {"err", log_str(err_name(install->err))});
    shard->install = NULL;
    remove_stage(shard);
    install_free(install);
    shard_settle(shard, clock_mono_ms());
}

void rsnap_leave(struct shard *shard, uint64_t term)
{
    struct rlog_snapshot nothing = {0};
    uint64_t own = rcore_term(shard->core);
    in_drop(shard);
    rsnap_install(shard, &nothing);
    shard->install->term = term > own ? term : own + 1;
    shard->install->working = true;
    shard_call(shard, &shard->install->job, call_stage_nothing, on_nothing_staged, shard);
}

bool rsnap_leaving(const struct shard *shard)
{
    return shard->install != NULL && shard->install->at.index == 0;
}

int rsnap_finish(struct shard *shard)
{
    struct rlog_snapshot at;
    int err = rlog_get_install(&shard->log, &at);
    if (err == 0)
        err = replace_rows(shard);
    if (err == 0) {
        rlog_install(&shard->log, wal_batch(shard->env->wal), &at);
        wal_write(shard->env->wal);
    }
    if (err == 0)
        remove_stage(shard);
    if (err == ERR_NOT_FOUND)
        resume(shard);
    return err == ERR_NOT_FOUND ? 0 : err;
}

bool rsnap_in_idle(const struct shard *shard)
{
    return shard->install == NULL && (shard->in == NULL || !shard->in->working);
}

void rsnap_in_close(struct shard *shard)
{
    if (shard->in != NULL)
        in_free(shard->in);
    if (shard->install != NULL)
        install_free(shard->install);
    shard->in = NULL;
    shard->install = NULL;
}
