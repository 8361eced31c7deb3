#include "replication/readindex.h"

#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/ids.h"

/* What the others have said of this node's leading a partition. */
struct readindex_part {
    struct list waits; /* by rising round */
    uint64_t term;     /* that it is about */
    struct {
        uint64_t id, round; /* the last question that it knew of no newer term at */
    } said[READINDEX_VOTERS_MAX];
    size_t said_count;
};

void readindex_init(struct readindex *reads, struct shard *shards, uint32_t partitions,
                    uint64_t self,
                    void (*send)(void *arg, uint64_t to, enum link_type type, struct span message),
                    void *arg)
{
    *reads = (struct readindex){
        .shards = shards, .partitions = partitions, .self = self, .send = send, .arg = arg};
    reads->parts = xcalloc(partitions, sizeof *reads->parts);
    for (uint32_t p = 0; p < partitions; p++)
        list_init(&reads->parts[p].waits);
}

void readindex_close(struct readindex *reads)
{
    free(reads->parts);
    buf_close(&reads->packed);
}

bool readindex_idle(const struct readindex *reads)
{
    return reads->waiting == 0;
}

static void end(struct readindex *reads, struct list_link *link, int err)
{
    struct readindex_wait *wait = container_of(link, struct readindex_wait, link);
    reads->waiting--;
    wait->done(wait, err);
}

static void end_all(struct readindex *reads, struct readindex_part *part)
{
    struct list ended; /* `done` may add new ones */
    struct list_link *link;
    list_init(&ended);
    while ((link = list_pop(&part->waits)) != NULL)
        list_push(&ended, link);
    while ((link = list_pop(&ended)) != NULL)
        end(reads, link, ERR_NOT_LEADER);
}

void readindex_add(struct readindex *reads, uint32_t partition, struct readindex_wait *wait,
                   uint64_t now_ms)
{
    wait->round = reads->round + 1;
    wait->until_ms = now_ms + READINDEX_MS_MAX;
    list_push(&reads->parts[partition].waits, &wait->link);
    reads->fresh = true;
    reads->waiting++;
}

/* ---- asking ---- */

/* Of the newest term of the shard; what was said of another one is forgotten. */
static bool still_leads(struct readindex *reads, uint32_t p)
{
    struct readindex_part *part = &reads->parts[p];
    const struct shard *shard = &reads->shards[p];
    uint64_t term = rcore_term(shard->core);
    if (part->term != term) {
        end_all(reads, part);
        part->term = term;
        part->said_count = 0;
    }
    if (!shard->serving)
        end_all(reads, part);
    return shard->serving;
}

struct question {
    uint32_t partitions[PARTITIONS_MAX];
    uint64_t terms[PARTITIONS_MAX], to[READINDEX_VOTERS_MAX];
    size_t count, to_count;
};

static void add_voters(const struct readindex *reads, const struct shard *shard,
                       struct question *question)
{
    struct rcore_server servers[READINDEX_VOTERS_MAX];
    size_t count = rcore_servers(shard->core, servers, READINDEX_VOTERS_MAX);
    for (size_t i = 0; i < count && i < READINDEX_VOTERS_MAX; i++) {
        size_t at = 0;
        while (at < question->to_count && question->to[at] != servers[i].id)
            at++;
        if (servers[i].voter && servers[i].id != reads->self && at == question->to_count &&
            at < READINDEX_VOTERS_MAX)
            question->to[question->to_count++] = servers[i].id;
    }
}

static void send_question(struct readindex *reads, const struct question *question)
{
    Loquat__ReadProbe probe = LOQUAT__READ_PROBE__INIT;
    probe.round = reads->round;
    probe.partitions = (uint32_t *)(uintptr_t)question->partitions;
    probe.terms = (uint64_t *)(uintptr_t)question->terms;
    probe.n_partitions = probe.n_terms = question->count;
    reads->packed.n = 0;
    size_t size = loquat__read_probe__get_packed_size(&probe);
    loquat__read_probe__pack(&probe, (uint8_t *)buf_grow(&reads->packed, size));
    for (size_t i = 0; i < question->to_count; i++)
        reads->send(reads->arg, question->to[i], LINK_READ_PROBE, buf_span(&reads->packed));
}

static void take_said(struct readindex *reads, uint32_t p);

void readindex_turn(struct readindex *reads, uint64_t now_ms)
{
    struct question question;
    if (reads->waiting == 0 || (!reads->fresh && now_ms - reads->asked_ms < READINDEX_AGAIN_MS))
        return;
    question.count = question.to_count = 0;
    reads->round++;
    reads->asked_ms = now_ms;
    reads->fresh = false;
    for (uint32_t p = 0; p < reads->partitions; p++) {
        struct readindex_part *part = &reads->parts[p];
        if (list_empty(&part->waits) || !still_leads(reads, p))
            continue;
        struct list_link *first;
        while ((first = list_first(&part->waits)) != NULL &&
               container_of(first, struct readindex_wait, link)->until_ms <= now_ms)
            end(reads, list_pop(&part->waits), ERR_NOT_LEADER);
        if (first == NULL)
            continue;
        question.partitions[question.count] = p;
        question.terms[question.count++] = part->term;
        add_voters(reads, &reads->shards[p], &question);
    }
    if (question.count > 0)
        send_question(reads, &question);
    for (size_t i = 0; i < question.count; i++)
        take_said(reads, question.partitions[i]); /* where nobody need be asked */
}

/* ---- being asked ---- */

int readindex_asked(struct readindex *reads, uint64_t from, struct span bytes)
{
    Loquat__ReadProbe *probe = loquat__read_probe__unpack(NULL, bytes.n, (const uint8_t *)bytes.p);
    if (probe == NULL || probe->n_partitions != probe->n_terms ||
        probe->n_partitions > reads->partitions) {
        if (probe != NULL)
            loquat__read_probe__free_unpacked(probe, NULL);
        return ERR_CORRUPT;
    }
    Loquat__ReadProbeReply reply = LOQUAT__READ_PROBE_REPLY__INIT;
    uint32_t partitions[PARTITIONS_MAX];
    uint64_t terms[PARTITIONS_MAX];
    reply.round = probe->round;
    reply.partitions = partitions;
    reply.terms = terms;
    for (size_t i = 0; i < probe->n_partitions; i++) {
        uint32_t p = probe->partitions[i];
        if (p >= reads->partitions || rcore_term(reads->shards[p].core) > probe->terms[i])
            continue;
        partitions[reply.n_partitions++] = p;
        terms[reply.n_terms++] = probe->terms[i];
    }
    loquat__read_probe__free_unpacked(probe, NULL);
    reads->packed.n = 0;
    size_t size = loquat__read_probe_reply__get_packed_size(&reply);
    loquat__read_probe_reply__pack(&reply, (uint8_t *)buf_grow(&reads->packed, size));
    reads->send(reads->arg, from, LINK_READ_PROBE_REPLY, buf_span(&reads->packed));
    return 0;
}

/* ---- the answers ---- */

static uint64_t said_by(const struct readindex *reads, const struct readindex_part *part,
                        uint64_t id)
{
    if (id == reads->self)
        return reads->round;
    for (size_t i = 0; i < part->said_count; i++)
        if (part->said[i].id == id)
            return part->said[i].round;
    return 0;
}

/* The last question that a majority of the voters gave this answer to. */
static uint64_t agreed(const struct readindex *reads, uint32_t p)
{
    const struct readindex_part *part = &reads->parts[p];
    struct rcore_server servers[READINDEX_VOTERS_MAX];
    uint64_t rounds[READINDEX_VOTERS_MAX];
    size_t voters = 0;
    size_t count = rcore_servers(reads->shards[p].core, servers, READINDEX_VOTERS_MAX);
    for (size_t i = 0; i < count && i < READINDEX_VOTERS_MAX; i++) {
        if (!servers[i].voter)
            continue;
        uint64_t round = said_by(reads, part, servers[i].id);
        size_t at = voters++;
        for (; at > 0 && rounds[at - 1] < round; at--)
            rounds[at] = rounds[at - 1];
        rounds[at] = round;
    }
    return voters > 0 ? rounds[voters / 2] : 0;
}

static void take_said(struct readindex *reads, uint32_t p)
{
    struct readindex_part *part = &reads->parts[p];
    if (!still_leads(reads, p))
        return;
    uint64_t round = agreed(reads, p);
    struct list_link *first;
    while ((first = list_first(&part->waits)) != NULL &&
           container_of(first, struct readindex_wait, link)->round <= round)
        end(reads, list_pop(&part->waits), 0);
}

static void note(struct readindex_part *part, uint64_t id, uint64_t round)
{
    size_t at = 0;
    while (at < part->said_count && part->said[at].id != id)
        at++;
    if (at == READINDEX_VOTERS_MAX)
        return;
    if (at == part->said_count)
        part->said[part->said_count++].round = 0;
    part->said[at].id = id;
    if (round > part->said[at].round)
        part->said[at].round = round;
}

int readindex_answered(struct readindex *reads, uint64_t from, struct span bytes)
{
    Loquat__ReadProbeReply *reply =
        loquat__read_probe_reply__unpack(NULL, bytes.n, (const uint8_t *)bytes.p);
    int err = reply == NULL || reply->n_partitions != reply->n_terms || reply->round > reads->round
                  ? ERR_CORRUPT
                  : 0;
    for (size_t i = 0; err == 0 && i < reply->n_partitions; i++) {
        uint32_t p = reply->partitions[i];
        if (p >= reads->partitions || !still_leads(reads, p) ||
            reads->parts[p].term != reply->terms[i])
            continue;
        note(&reads->parts[p], from, reply->round);
        take_said(reads, p);
    }
    if (reply != NULL)
        loquat__read_probe_reply__free_unpacked(reply, NULL);
    return err;
}
