/* replication/rsnap_out.c: snapshots on their way to others: see rsnap.h. */
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

struct snap_out {
    struct list_link link;
    struct shard *shard;
    uint64_t to, id, term, number;
    uint32_t version; /* of the core's message */
    struct rlog_snapshot at;
    struct buf conf;
    uint64_t held;
    struct job job;
    bool working, dead, failed;
    uint64_t sent_ms, heard_ms;
    /* the apply thread's while `working` */
    bool open, iterating, complete;
    struct kv_view view;
    struct kv_iter iter;
    enum kv_cf cf;
    struct buf rows;
    uint64_t sum;
    struct buf back; /* go on in `cf` behind this key; empty: where it is */
    int err;
};

static void close_view(struct snap_out *out)
{
    if (out->iterating)
        kv_iter_close(&out->iter);
    if (out->open)
        kv_view_close(&out->view);
    out->iterating = out->open = false;
}

static void out_free(struct snap_out *out)
{
    list_remove(&out->link);
    close_view(out);
    buf_close(&out->conf);
    buf_close(&out->rows);
    buf_close(&out->back);
    free(out);
}

static void out_drop(struct snap_out *out)
{
    out->dead = true;
    if (!out->working)
        out_free(out);
}

static struct snap_out *out_next(struct shard *shard, struct list_link **link)
{
    struct list_link *at = *link;
    if (at == NULL)
        return NULL;
    *link = list_next(&shard->sends, at);
    return container_of(at, struct snap_out, link);
}

static int open_view(struct snap_out *out)
{
    struct shard *shard = out->shard;
    struct key key = key_partition(shard->partition);
    struct buf row = {0};
    kv_view_open(&out->view, shard->env->data);
    out->open = true;
    int err = kv_view_get(&out->view, KV_APL, key_span(&key), &row);
    if (err == 0)
        err = apply_row_read(buf_span(&row), &out->at.index, &out->at.term);
    buf_close(&row);
    return err;
}

static void open_family(struct snap_out *out)
{
    uint32_t partition = out->shard->partition;
    struct key from = key_partition(partition), until = key_partition(partition + 1);
    kv_iter_open_scan(&out->iter, out->shard->env->data, &out->view, out->cf, key_span(&from),
                      key_span(&until));
    out->iterating = true;
}

static void go_back(struct snap_out *out)
{
    struct span key = buf_span(&out->back);
    if (out->iterating)
        kv_iter_close(&out->iter);
    open_family(out);
    kv_iter_seek(&out->iter, key);
    if (kv_iter_valid(&out->iter) && span_eq(kv_iter_key(&out->iter), key))
        kv_iter_next(&out->iter);
    out->back.n = 0;
}

static int fill(struct snap_out *out)
{
    int err = 0;
    out->rows.n = 0;
    if (out->back.n > 0)
        go_back(out);
    while (err == 0 && out->cf < KV_CF_COUNT && out->rows.n < out->shard->env->chunk_bytes) {
        if (!out->iterating) {
            open_family(out);
            kv_iter_first(&out->iter);
        }
        if (kv_iter_valid(&out->iter)) {
            rsnap_row_put(&out->rows, &(struct rsnap_row){out->cf, kv_iter_key(&out->iter),
                                                          kv_iter_value(&out->iter)});
            kv_iter_next(&out->iter);
            continue;
        }
        err = kv_iter_error(&out->iter);
        kv_iter_close(&out->iter);
        out->iterating = false;
        out->cf++;
    }
    out->complete = err == 0 && out->cf == KV_CF_COUNT;
    out->sum = XXH3_64bits_withSeed(out->rows.p, out->rows.n, out->sum);
    return err;
}

static void call_fill(struct job *job)
{
    struct snap_out *out = job->owner;
    out->err = out->open ? 0 : open_view(out);
    if (out->err == 0)
        out->err = fill(out);
}

static void say_chunk(struct snap_out *out)
{
    struct shard *shard = out->shard;
    Loquat__Chunk chunk = LOQUAT__CHUNK__INIT;
    Loquat__Raft message = LOQUAT__RAFT__INIT;
    struct buf last = {0};
    chunk.partition = message.partition = shard->partition;
    chunk.from = message.from = shard->env->id;
    chunk.to = message.to = out->to;
    chunk.id = out->id;
    chunk.number = out->number;
    chunk.term = message.term = out->term;
    chunk.index = message.index = out->at.index;
    chunk.rows = (ProtobufCBinaryData){out->rows.n, (uint8_t *)out->rows.p};
    chunk.sum = out->sum;
    chunk.resumes = true;
    if (out->complete) {
        message.kind = LOQUAT__RAFT_KIND__RAFT_SNAPSHOT;
        message.version = out->version;
        message.index_term = out->at.term;
        message.conf_index = out->at.conf_index;
        message.conf = (ProtobufCBinaryData){out->conf.n, (uint8_t *)out->conf.p};
        size_t size = loquat__raft__get_packed_size(&message);
        loquat__raft__pack(&message, (uint8_t *)buf_grow(&last, size));
        chunk.last = (ProtobufCBinaryData){last.n, (uint8_t *)last.p};
    }
    out->sent_ms = clock_mono_ms();
    shard_say(shard, out->to, LINK_CHUNK, &chunk.base);
    buf_close(&last);
}

static void work(struct snap_out *out);

/* From the first row on, of a later moment. */
static void begin(struct snap_out *out)
{
    struct shard *shard = out->shard;
    close_view(out);
    out->id = random_u64();
    out->number = out->sum = 0;
    out->cf = 0;
    out->back.n = 0;
    out->complete = out->failed = false;
    out->held = shard->applied;
    work(out);
}

/* The configuration of that moment: the newest one that is in the log up to there. ERR_NOT_FOUND:
 * a newer one has taken its place since. */
static int find_conf(struct snap_out *out)
{
    const struct rlog *log = &out->shard->log;
    struct span conf = buf_span(&log->conf);
    out->at.conf_index = log->conf_index;
    for (uint64_t i = log->conf_index + 1; i <= out->at.index; i++) {
        const struct rlog_entry *entry = rlog_get(log, i);
        if (entry == NULL || entry->type != RCORE_CHANGE)
            continue;
        conf = span_of(entry->bytes, entry->size);
        out->at.conf_index = i;
    }
    out->conf.n = 0;
    buf_add_span(&out->conf, conf);
    return conf.n > 0 && out->at.conf_index <= out->at.index ? 0 : ERR_NOT_FOUND;
}

static void on_filled(struct job *job)
{
    struct snap_out *out = job->owner;
    out->working = false;
    if (out->dead) {
        out_free(out);
        return;
    }
    if (out->err != 0) {
        log_warn("a snapshot can't be read; it is tried again",
                 {"partition", log_int(out->shard->partition)},
                 {"err", log_str(err_name(out->err))});
        out->failed = true;
        out->sent_ms = clock_mono_ms();
        return;
    }
    if (out->number == 0 && find_conf(out) != 0) {
        begin(out);
        return;
    }
    out->held = out->at.index;
    say_chunk(out);
}

static void work(struct snap_out *out)
{
    out->working = true;
    shard_call(out->shard, &out->job, call_fill, on_filled, out);
}

void rsnap_send(struct shard *shard, const Loquat__Raft *message)
{
    struct list_link *link = list_first(&shard->sends);
    for (struct snap_out *out; (out = out_next(shard, &link)) != NULL;) {
        if (out->to != message->to || out->dead)
            continue;
        if (out->term == message->term)
            return; /* it is on its way */
        out_drop(out);
    }
    struct snap_out *out = xcalloc(1, sizeof *out);
    out->shard = shard;
    out->to = message->to;
    out->term = message->term;
    out->version = message->version;
    out->heard_ms = clock_mono_ms();
    list_push(&shard->sends, &out->link);
    begin(out);
}

/* To the row that the other one has on disk; from there on it has nothing. */
static void resume(struct snap_out *out, const Loquat__ChunkReply *reply)
{
    out->number = reply->next;
    out->sum = reply->sum;
    out->cf = (enum kv_cf)reply->family;
    out->complete = out->failed = false;
    out->back.n = 0;
    buf_add(&out->back, reply->after.data, reply->after.len);
    log_info("a snapshot goes on where it was when its receiver ended",
             {"partition", log_int(out->shard->partition)}, {"node", log_int((int64_t)out->to)},
             {"chunk", log_int((int64_t)out->number)});
    work(out);
}

void rsnap_reply(struct shard *shard, const Loquat__ChunkReply *reply, uint64_t now_ms)
{
    struct list_link *link = list_first(&shard->sends);
    for (struct snap_out *out; (out = out_next(shard, &link)) != NULL;) {
        if (out->to != reply->from || out->id != reply->id || out->dead || out->working)
            continue;
        out->heard_ms = now_ms;
        if (reply->done) {
            out_drop(out);
        } else if (reply->next == out->number + 1 && !out->complete) {
            out->number++;
            work(out);
        } else if (reply->after.len > 0 && reply->next <= out->number &&
                   reply->family < KV_CF_COUNT) {
            resume(out, reply);
        } else if (reply->next == 0 && out->number > 0) {
            begin(out); /* what it had is lost */
        }
    }
}

uint64_t rsnap_held(const struct shard *shard)
{
    uint64_t held = UINT64_MAX;
    struct list_link *link = list_first(&shard->sends);
    for (; link != NULL; link = list_next(&shard->sends, link)) {
        const struct snap_out *out = container_of(link, struct snap_out, link);
        held = out->held < held && !out->dead ? out->held : held;
    }
    return held;
}

void rsnap_tick(struct shard *shard, uint64_t now_ms)
{
    bool leads = rcore_state(shard->core) == RCORE_LEADER;
    struct list_link *link = list_first(&shard->sends);
    for (struct snap_out *out; (out = out_next(shard, &link)) != NULL;) {
        if (out->dead)
            continue;
        if (!leads || out->term != rcore_term(shard->core) ||
            now_ms > out->heard_ms + SNAPSHOT_GIVE_UP_MS)
            out_drop(out);
        else if (!out->working && now_ms >= out->sent_ms + SNAPSHOT_AGAIN_MS && out->failed)
            begin(out);
        else if (!out->working && now_ms >= out->sent_ms + SNAPSHOT_AGAIN_MS)
            say_chunk(out);
    }
}

bool rsnap_out_idle(const struct shard *shard)
{
    struct list_link *link = list_first(&shard->sends);
    for (; link != NULL; link = list_next(&shard->sends, link))
        if (container_of(link, struct snap_out, link)->working)
            return false;
    return true;
}

void rsnap_out_close(struct shard *shard)
{
    struct list_link *link = list_first(&shard->sends);
    for (struct snap_out *out; (out = out_next(shard, &link)) != NULL;)
        out_free(out);
}
