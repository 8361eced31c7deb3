#include "replication/gauges.h"

#include "store/base/bound.h"
#include "store/base/metrics.h"
#include "store/base/pace.h"
#include "store/base/process.h"
#include "store/base/wire.h"

/* name of ours, of the metric, its labels, what it says */
#define GAUGES(X)                                                                                  \
    X(DISK_FULL, "loquat_disk_full", NULL,                                                         \
      "1 while writes are refused because the disk has less free than the reserve")                \
    X(DISK_FREE, "loquat_disk_free_bytes", NULL, "Free on the disk of the directory")              \
    X(DISK_WANTED, "loquat_disk_wanted_bytes", NULL,                                               \
      "What must be free for writes to be taken: the reserve and what memory still has to write")  \
    X(WAITING, "loquat_write_waiting_bytes", NULL,                                                 \
      "Commands that wait for their turn in a raft log, all partitions")                           \
    X(WAITING_LARGEST, "loquat_write_waiting_largest_bytes", NULL,                                 \
      "The same of the partition with the most; above SHARD_WAITING_MAX writes are refused")       \
    X(INFLIGHT, "loquat_write_inflight_entries", NULL,                                             \
      "Entries between their submission to a raft log and their answer")                           \
    X(UNANSWERED, "loquat_write_unanswered", NULL,                                                 \
      "Commands and effects on other partitions that were taken and are not done")                 \
    X(OWED, "loquat_write_owed", NULL,                                                             \
      "Effects that another partition did not take yet; they are tried again")                     \
    X(WAL_WAITING, "loquat_wal_waiting_entries", NULL, "Entries that wait for the next sync")      \
    X(WAL_WAITING_BYTES, "loquat_wal_waiting_bytes", NULL, "Their bytes")                          \
    X(APPLY_WAITING, "loquat_apply_waiting_jobs", NULL,                                            \
      "Entries and reads of state that the apply thread has not done")                             \
    X(LAG, "loquat_apply_lag_entries", NULL, "Entries that are committed and not applied")         \
    X(STORED, "loquat_raft_stored_index", NULL,                                                    \
      "Last index that was synced, summed over the partitions")                                    \
    X(APPLIED, "loquat_raft_applied_index", NULL,                                                  \
      "Last index that was applied, summed over the partitions")                                   \
    X(FLUSHED, "loquat_raft_flushed_index", NULL,                                                  \
      "Last index in the data database's files, summed over the partitions")                       \
    X(LOG_ENTRIES, "loquat_raft_log_entries", NULL,                                                \
      "Entries of the raft logs that are not cut away yet")                                        \
    X(REPLAY, "loquat_raft_replay_bytes", NULL,                                                    \
      "Of the raft logs, that a start after a crash would have to apply again")                    \
    X(SERVING, "loquat_partitions_serving", NULL, "Partitions that take writes here")              \
    X(KEPT, "loquat_partitions_kept", NULL, "Partitions of which there is something here")         \
    X(LEADERLESS, "loquat_partitions_leaderless", NULL,                                            \
      "Partitions that nobody serves, as far as this node knows")                                  \
    X(PARTITIONS, "loquat_partitions", NULL, "Partitions of the directory")                        \
    X(LINKS, "loquat_links", NULL, "Links of gateways that are open")                              \
    X(NODES_ALL, "loquat_nodes", NULL, "Other nodes of the cluster")                               \
    X(NODES, "loquat_nodes_reached", NULL, "Other nodes of the cluster that are reached")          \
    X(NODES_PENDING, "loquat_nodes_pending_bytes", NULL,                                           \
      "Bytes that wait to be taken by other nodes; RNET_PENDING_MAX for each")                     \
    X(VERSION, "loquat_wire_version", NULL,                                                        \
      "Newest version of the protocol that this node speaks")                                      \
    X(NODES_VERSION, "loquat_nodes_wire_version_lowest", NULL,                                     \
      "The oldest of those of this node and of the nodes that it reaches")                         \
    X(LINKS_VERSION, "loquat_links_wire_version_lowest", NULL,                                     \
      "The oldest that is spoken with a gateway; 0: there is none")                                \
    X(FORMAT, "loquat_format", NULL, "Format of the directory")                                    \
    X(FORMAT_NEWEST, "loquat_format_newest", NULL,                                                 \
      "The format that it is raised to when all nodes of the cluster can read it")                 \
    X(CALLERS, "loquat_link_callers", NULL, "Callers that have not proved themselves yet")         \
    X(PENDING, "loquat_link_pending_bytes", NULL, "Bytes that wait to be taken by gateways")       \
    X(PENDING_LARGEST, "loquat_link_pending_largest_bytes", NULL,                                  \
      "The same of the link with the most; above PEER_PENDING_MAX its reads are refused")          \
    X(READS, "loquat_reads_running", NULL, "Reads of pages under way on the thread pool")          \
    X(READS_LARGEST, "loquat_link_reads_largest", NULL,                                            \
      "Reads under way for the link with the most; above PEER_READS_MAX they are refused")         \
    X(FEED_READS, "loquat_tail_reads_running", NULL,                                               \
      "Reads under way for subscriptions that are behind")                                         \
    X(TOPICS, "loquat_feed_topics", NULL, "Logs that some gateway follows")                        \
    X(SUBS, "loquat_feed_subscriptions", NULL, "Subscriptions of all gateways")                    \
    X(CREDIT, "loquat_feed_credit_lowest_bytes", NULL,                                             \
      "Bytes of tails that the link with the least credit may still be sent")                      \
    X(CONVS, "loquat_cache_conversations", NULL, "Conversations that are held in memory")          \
    X(MEMBERS, "loquat_cache_members", NULL, "Members that are held in memory")                    \
    X(CIDS, "loquat_dedup_entries", NULL, "Message ids in memory that are in no row yet")          \
    X(FILTERS, "loquat_dedup_filter_bytes", NULL, "Filters that say that a message id is new")     \
    X(COMPACTING, "loquat_compact_running", NULL, "1 while a job of loquat-compact is at work")    \
    X(COMPACT_AT, "loquat_compact_progress", NULL, "Where the job is in its phase")                \
    X(COMPACT_ALL, "loquat_compact_progress_whole", NULL, "How much that phase has; an estimate")  \
    X(JOURNAL, "loquat_journal_bytes", NULL,                                                       \
      "Segments of the journal on disk, those that wait to be used again among them")              \
    X(LOG_BYTES, "loquat_raft_log_bytes", NULL,                                                    \
      "Entries of the raft logs that are not cut away yet: what the journal is there for")         \
    KV_GAUGES(X, DATA, "data")

#define KV_GAUGES(X, DB, label)                                                                    \
    X(DB##_MEMORY, "loquat_rocksdb_memtable_bytes", "db=\"" label "\"",                            \
      "Rows in memory that still have to be written to files")                                     \
    X(DB##_LEVEL0, "loquat_rocksdb_level0_files", "db=\"" label "\"",                              \
      "Files of level 0, of the family with the most")                                             \
    X(DB##_PENDING, "loquat_rocksdb_pending_compaction_bytes", "db=\"" label "\"",                 \
      "What compactions are behind with; an estimate")                                             \
    X(DB##_RATE, "loquat_rocksdb_delayed_write_bytes_per_second", "db=\"" label "\"",              \
      "To how much writes are slowed down; 0: they are not")                                       \
    X(DB##_STOPPED, "loquat_rocksdb_write_stopped", "db=\"" label "\"",                            \
      "1 while writes wait until compactions have caught up")                                      \
    X(DB##_COMPACTIONS, "loquat_rocksdb_running_compactions", "db=\"" label "\"",                  \
      "Compactions that run")                                                                      \
    X(DB##_ERRORS, "loquat_rocksdb_background_errors", "db=\"" label "\"",                         \
      "Flushes and compactions that failed since the start")                                       \
    X(DB##_TABLES, "loquat_rocksdb_table_bytes", "db=\"" label "\"",                               \
      "Indexes and filters of files, in memory")                                                   \
    X(DB##_CACHE, "loquat_rocksdb_cache_bytes", "db=\"" label "\"",                                \
      "Blocks of files that are kept in memory; 256 MiB")

enum gauge {
#define X(id, name, labels, help) GAUGE_##id,
    GAUGES(X)
#undef X
        GAUGE_COUNT
};

static struct metric gauges[GAUGE_COUNT] = {
#define X(id, n, l, h)                                                                             \
    [GAUGE_##id] = {.name = (n), .labels = (l), .help = (h), .type = METRIC_GAUGE},
    GAUGES(X)
#undef X
};
static struct metric flushes = {.name = "loquat_flush_seconds",
                                .help = "Flushes of the data database to its files",
                                .type = METRIC_HISTOGRAM};

static struct metric moved = {.name = "loquat_journal_moved_bytes_total",
                              .help = "Entries that were written again, so that segments can go",
                              .type = METRIC_COUNTER};

static struct metric followed = {.name = "loquat_follower_reads_total",
                                 .help = "Pages that were read here of partitions led elsewhere",
                                 .type = METRIC_COUNTER};

void gauges_register(void)
{
    static bool registered;
    if (registered)
        return;
    registered = true;
    for (int i = 0; i < GAUGE_COUNT; i++)
        metric_register(&gauges[i]);
    metric_register(&flushes);
    metric_register(&moved);
    metric_register(&followed);
    pace_register();
    bounds_register(BOUND_OF_NODE);
    process_metrics();
}

void gauges_moved(uint64_t bytes)
{
    metric_add(&moved, (int64_t)bytes);
}

void gauges_flushed(uint64_t us)
{
    metric_observe_us(&flushes, (int64_t)us);
}

static void set(enum gauge gauge, uint64_t value)
{
    metric_set(&gauges[gauge], (int64_t)value);
}

void gauges_disk(uint64_t free_bytes, uint64_t wanted, bool full)
{
    set(GAUGE_DISK_FREE, free_bytes < INT64_MAX ? free_bytes : INT64_MAX); /* or unknown */
    set(GAUGE_DISK_WANTED, wanted);
    set(GAUGE_DISK_FULL, full);
}

static void take_shards(const struct gauges_env *env)
{
    uint64_t sums[GAUGE_COUNT] = {0}, largest = 0;
    for (uint32_t i = 0; i < env->partitions; i++) {
        const struct shard *shard = &env->shards[i];
        sums[GAUGE_WAITING] += shard->waiting_bytes;
        if (shard->waiting_bytes > largest)
            largest = shard->waiting_bytes;
        sums[GAUGE_INFLIGHT] += shard->inflight_count;
        sums[GAUGE_UNANSWERED] += shard->unfinished;
        if (shard->committed > shard->applied)
            sums[GAUGE_LAG] += shard->committed - shard->applied;
        sums[GAUGE_STORED] += rcore_last_stored(shard->core);
        sums[GAUGE_APPLIED] += shard->applied;
        sums[GAUGE_FLUSHED] += shard->flushed;
        sums[GAUGE_LOG_ENTRIES] += shard->log.count;
        sums[GAUGE_LOG_BYTES] += shard->log.bytes;
        sums[GAUGE_REPLAY] += shard->unflushed_bytes;
        sums[GAUGE_SERVING] += shard->serving;
        sums[GAUGE_KEPT] += shard_holds(shard);
        sums[GAUGE_LEADERLESS] += !shard->serving && !shard_led_elsewhere(shard);
        sums[GAUGE_CONVS] += shard->sizes.convs;
        sums[GAUGE_MEMBERS] += shard->sizes.members;
        sums[GAUGE_CIDS] += shard->sizes.cids;
        sums[GAUGE_FILTERS] += shard->sizes.filter_bytes;
    }
    static const enum gauge SUMMED[] = {
        GAUGE_WAITING,   GAUGE_INFLIGHT, GAUGE_UNANSWERED,  GAUGE_LAG,     GAUGE_STORED,
        GAUGE_APPLIED,   GAUGE_FLUSHED,  GAUGE_LOG_ENTRIES, GAUGE_SERVING, GAUGE_CONVS,
        GAUGE_MEMBERS,   GAUGE_CIDS,     GAUGE_FILTERS,     GAUGE_REPLAY,  GAUGE_LEADERLESS,
        GAUGE_LOG_BYTES, GAUGE_KEPT};
    for (size_t i = 0; i < sizeof SUMMED / sizeof *SUMMED; i++)
        set(SUMMED[i], sums[SUMMED[i]]);
    set(GAUGE_WAITING_LARGEST, largest);
    set(GAUGE_PARTITIONS, env->partitions);
}

static void take_links(const struct gauges_env *env)
{
    struct rpc_sizes sizes = rpc_sizes(env->rpc);
    set(GAUGE_LINKS, env->rpc->peer_count);
    size_t pending = 0;
    set(GAUGE_NODES_ALL, env->net != NULL ? rnet_others(env->net) : 0);
    set(GAUGE_NODES, env->net != NULL ? rnet_links(env->net, &pending) : 0);
    set(GAUGE_NODES_PENDING, pending);
    set(GAUGE_VERSION, WIRE_VERSION);
    set(GAUGE_NODES_VERSION, env->net != NULL ? rnet_version_lowest(env->net) : WIRE_VERSION);
    set(GAUGE_LINKS_VERSION, sizes.version);
    set(GAUGE_CALLERS, door_callers(env->door));
    set(GAUGE_PENDING, sizes.pending);
    set(GAUGE_PENDING_LARGEST, sizes.pending_largest);
    set(GAUGE_READS, env->rpc->reads);
    metric_set(&followed, (int64_t)env->rpc->followed);
    set(GAUGE_READS_LARGEST, sizes.reads_largest);
    set(GAUGE_FEED_READS, env->feed->reads);
    set(GAUGE_TOPICS, env->feed->topics.count);
    set(GAUGE_SUBS, sizes.subs);
    metric_set(&gauges[GAUGE_CREDIT], sizes.credit_lowest);
}

/* The gauges of a database stand in the order of KV_GAUGES, from `first` on. */
static void take_kv(struct kv *kv, enum gauge first)
{
    uint64_t level0 = 0, pending = 0, tables = 0;
    for (int cf = 0; cf < KV_CF_COUNT; cf++) {
        uint64_t files = kv_property(kv, (enum kv_cf)cf, "rocksdb.num-files-at-level0");
        level0 = files > level0 ? files : level0;
        pending += kv_property(kv, (enum kv_cf)cf, "rocksdb.estimate-pending-compaction-bytes");
        tables += kv_property(kv, (enum kv_cf)cf, "rocksdb.estimate-table-readers-mem");
    }
    const uint64_t values[] = {kv_memory(kv),
                               level0,
                               pending,
                               kv_property(kv, KV_LOG, "rocksdb.actual-delayed-write-rate"),
                               kv_property(kv, KV_LOG, "rocksdb.is-write-stopped"),
                               kv_property(kv, KV_LOG, "rocksdb.num-running-compactions"),
                               kv_property(kv, KV_LOG, "rocksdb.background-errors"),
                               tables,
                               kv_property(kv, KV_LOG, "rocksdb.block-cache-usage")};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        set(first + (enum gauge)i, values[i]);
}

static void take_format(const struct datadir *dir)
{
    set(GAUGE_FORMAT, dir->format);
    set(GAUGE_FORMAT_NEWEST, datadir_newest(dir) ? dir->format : DATADIR_FORMAT_NEWEST);
}

static void take_list(enum gauge gauge, const struct list *list)
{
    uint64_t count = 0;
    for (struct list_link *link = list_first(list); link != NULL; link = list_next(list, link))
        count++;
    set(gauge, count);
}

void gauges_take(const struct gauges_env *env)
{
    take_shards(env);
    take_links(env);
    take_format(env->dir);
    size_t bytes = 0;
    set(GAUGE_WAL_WAITING, wal_waiting(env->wal, &bytes));
    set(GAUGE_WAL_WAITING_BYTES, bytes);
    set(GAUGE_APPLY_WAITING, applier_waiting(env->applier));
    take_list(GAUGE_OWED, env->owed);
    struct control_state state = control_state(env->control);
    set(GAUGE_COMPACTING, state.working);
    set(GAUGE_COMPACT_AT, state.at);
    set(GAUGE_COMPACT_ALL, state.all);
    set(GAUGE_JOURNAL, journal_bytes(env->journal));
    take_kv(env->data, GAUGE_DATA_MEMORY);
}
