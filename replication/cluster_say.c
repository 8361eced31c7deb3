/* replication/cluster_say.c: the status of a cluster, for people and programs (cluster_ask.h). */
#include <stdio.h>

#include "replication/cluster_ask.h"
#include "store/base/json.h"

static unsigned long long num(uint64_t number)
{
    return number;
}

const Loquat__PartitionState *cluster_served(const struct roster *roster,
                                             Loquat__ClusterState *const *answers, size_t partition)
{
    const Loquat__PartitionState *best = NULL;
    for (size_t i = 0; i < roster->count; i++) {
        if (answers[i] == NULL || partition >= answers[i]->n_partitions)
            continue;
        const Loquat__PartitionState *state = answers[i]->partitions[partition];
        if (state->serving && (best == NULL || state->term > best->term))
            best = state;
    }
    return best;
}

size_t cluster_partitions(const struct roster *roster, Loquat__ClusterState *const *answers)
{
    for (size_t i = 0; i < roster->count; i++)
        if (answers[i] != NULL)
            return answers[i]->n_partitions;
    return 0;
}

static bool holds(const Loquat__PartitionState *state, uint64_t id)
{
    for (size_t i = 0; i < state->n_replicas; i++)
        if (state->replicas[i]->id == id)
            return true;
    return false;
}

/* Entries that a node lacks of what is committed, over all partitions that are served. */
static uint64_t behind(const struct roster *roster, Loquat__ClusterState *const *answers,
                       size_t who)
{
    uint64_t sum = 0;
    for (size_t p = 0; p < answers[who]->n_partitions; p++) {
        const Loquat__PartitionState *leader = cluster_served(roster, answers, p);
        const Loquat__PartitionState *own = answers[who]->partitions[p];
        if (leader != NULL && holds(leader, answers[who]->id) && leader->commit > own->applied)
            sum += leader->commit - own->applied;
    }
    return sum;
}

size_t cluster_leads(const Loquat__ClusterState *state)
{
    size_t count = 0;
    for (size_t p = 0; p < state->n_partitions; p++)
        count += state->partitions[p]->serving;
    return count;
}

static const char *word(const Loquat__ClusterState *state)
{
    if (state == NULL)
        return "away";
    if (state->disk_full)
        return "disk full";
    return !state->ready ? "starting" : state->drained ? "drained" : "serving";
}

bool cluster_well(const struct roster *roster, Loquat__ClusterState *const *answers)
{
    for (size_t i = 0; i < roster->count; i++)
        if (answers[i] == NULL || !answers[i]->ready || answers[i]->disk_full ||
            answers[i]->n_reached + 1 < roster->count)
            return false;
    for (size_t p = 0; p < cluster_partitions(roster, answers); p++)
        if (cluster_served(roster, answers, p) == NULL)
            return false;
    return true;
}

const Loquat__ClusterState *cluster_state_of(const struct roster *roster,
                                             Loquat__ClusterState *const *answers, uint64_t id)
{
    for (size_t i = 0; i < roster->count; i++)
        if (answers[i] != NULL && answers[i]->id == id)
            return answers[i];
    return NULL;
}

static bool reaches(const Loquat__ClusterState *state, uint64_t id)
{
    for (size_t i = 0; i < state->n_reached; i++)
        if (state->reached[i] == id)
            return true;
    return state->id == id;
}

bool cluster_reached(const struct roster *roster, Loquat__ClusterState *const *answers, uint64_t id)
{
    for (size_t i = 0; i < roster->count; i++)
        if (answers[i] != NULL && reaches(answers[i], id))
            return true;
    return false;
}

uint64_t cluster_missing(const struct roster *roster, Loquat__ClusterState *const *answers)
{
    for (size_t p = 0; p < cluster_partitions(roster, answers); p++) {
        const Loquat__PartitionState *state = cluster_served(roster, answers, p);
        const Loquat__ClusterState *leader =
            state != NULL ? cluster_state_of(roster, answers, state->leader) : NULL;
        for (size_t i = 0; leader != NULL && i < state->n_replicas; i++)
            if (state->replicas[i]->voter && !reaches(leader, state->replicas[i]->id))
                return state->replicas[i]->id;
    }
    return 0;
}

static void text_nodes(const struct roster *roster, Loquat__ClusterState *const *answers,
                       struct buf *out)
{
    buf_addf(out, "%-5s %-22s %-10s %6s %10s %12s %5s %6s  %s\n", "node", "address", "state",
             "leads", "behind", "disk free", "wire", "format", "reaches");
    for (size_t i = 0; i < roster->count; i++) {
        const Loquat__ClusterState *state = answers[i];
        buf_addf(out, "%-5llu %-22s %-10s", num(roster->nodes[i].id), roster->nodes[i].name,
                 word(state));
        if (state != NULL) {
            buf_addf(out, " %6zu %10llu %8.1f GiB %5u %6u ", cluster_leads(state),
                     num(behind(roster, answers, i)), (double)state->disk_free / (double)(1 << 30),
                     state->version, state->format);
            for (size_t k = 0; k < state->n_reached; k++)
                buf_addf(out, "%s%llu", k > 0 ? "," : " ", num(state->reached[k]));
        }
        buf_add_byte(out, '\n');
    }
}

static void text_replicas(const Loquat__PartitionState *state, struct buf *out)
{
    for (size_t i = 0; i < state->n_replicas; i++) {
        const Loquat__ReplicaState *replica = state->replicas[i];
        buf_addf(out, "  %llu%s", num(replica->id), replica->voter ? "" : " (no vote)");
        if (replica->match < state->commit)
            buf_addf(out, " -%llu", num(state->commit - replica->match));
    }
}

void cluster_text(const struct roster *roster, Loquat__ClusterState *const *answers,
                  struct buf *out)
{
    text_nodes(roster, answers, out);
    size_t count = cluster_partitions(roster, answers);
    if (count == 0)
        return;
    buf_addf(out, "\n%-9s %6s %8s %12s   %s\n", "partition", "leader", "term", "committed",
             "replicas, and entries that they lack");
    for (size_t p = 0; p < count; p++) {
        const Loquat__PartitionState *state = cluster_served(roster, answers, p);
        if (state == NULL) {
            buf_addf(out, "%-9zu %6s\n", p, "none");
            continue;
        }
        buf_addf(out, "%-9zu %6llu %8llu %12llu ", p, num(state->leader), num(state->term),
                 num(state->commit));
        text_replicas(state, out);
        buf_add_byte(out, '\n');
    }
}

static void json_replicas(const Loquat__PartitionState *state, struct buf *out)
{
    for (size_t i = 0; i < state->n_replicas; i++)
        buf_addf(out, "%s{\"node\":%llu,\"voter\":%s,\"match\":%llu}", i > 0 ? "," : "",
                 num(state->replicas[i]->id), state->replicas[i]->voter ? "true" : "false",
                 num(state->replicas[i]->match));
}

void cluster_json(const struct roster *roster, Loquat__ClusterState *const *answers,
                  struct buf *out)
{
    buf_addf(out, "{\"well\":%s,\"nodes\":[", cluster_well(roster, answers) ? "true" : "false");
    for (size_t i = 0; i < roster->count; i++) {
        const Loquat__ClusterState *state = answers[i];
        buf_addf(out, "%s{\"node\":%llu,\"address\":", i > 0 ? "," : "", num(roster->nodes[i].id));
        json_put_string(out, span_str(roster->nodes[i].name));
        buf_addf(out, ",\"state\":\"%s\"", word(state));
        if (state != NULL) {
            buf_addf(out, ",\"leads\":%zu,\"behind\":%llu,\"disk_free\":%llu", cluster_leads(state),
                     num(behind(roster, answers, i)), num(state->disk_free));
            buf_addf(out, ",\"wire\":%u,\"format\":%u,\"reaches\":[", state->version,
                     state->format);
            for (size_t k = 0; k < state->n_reached; k++)
                buf_addf(out, "%s%llu", k > 0 ? "," : "", num(state->reached[k]));
            buf_add_byte(out, ']');
        }
        buf_add_byte(out, '}');
    }
    buf_add_str(out, "],\"partitions\":[");
    for (size_t p = 0; p < cluster_partitions(roster, answers); p++) {
        const Loquat__PartitionState *state = cluster_served(roster, answers, p);
        buf_addf(out, "%s{\"partition\":%zu,\"leader\":", p > 0 ? "," : "", p);
        if (state == NULL) {
            buf_add_str(out, "null,\"replicas\":[]}");
            continue;
        }
        buf_addf(out, "%llu,\"term\":%llu,\"committed\":%llu,\"replicas\":[", num(state->leader),
                 num(state->term), num(state->commit));
        json_replicas(state, out);
        buf_add_str(out, "]}");
    }
    buf_add_str(out, "]}\n");
}
