/* gateway/kafka_group.c: groups: who is in, in which generation, and what each of them reads, as
 * the one who leads says. All of it is in this gateway's memory and ends with it: members join
 * again then. What was committed stands in the store (kafka_offsets.c). */
#include <stdio.h>
#include <stdlib.h>

#include "gateway/kafka_inside.h"
#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/metrics.h"

static struct metric groups = {.name = "loquat_kafka_groups",
                               .help = "Groups of Kafka clients that this gateway coordinates",
                               .type = METRIC_GAUGE};
static struct metric rebalances = {.name = "loquat_kafka_rebalances_total",
                                   .help = "Times that groups shared out their partitions anew",
                                   .type = METRIC_COUNTER};

void kafka_group_metrics(void)
{
    metric_register(&groups);
    metric_register(&rebalances);
}

struct kafka_member {
    struct kafka_group *group;
    struct list_link in_group;
    char id[KAFKA_MEMBER_ID_MAX + 1];
    uint64_t session_ms, rebalance_ms, due_ms; /* due: it is gone if it was not heard of by then */
    struct kafka_pair *protocols;
    size_t protocol_count;
    struct buf bytes, assignment;
    struct kafka_conn *conn; /* waits for its join, or what it is assigned */
    bool ready;              /* has joined again; has asked what it is assigned */
};

static struct kafka_member *member_at(struct list_link *link)
{
    return link != NULL ? container_of(link, struct kafka_member, in_group) : NULL;
}

static struct kafka_member *first(const struct kafka_group *group)
{
    return member_at(list_first(&group->members));
}

static struct kafka_member *next(const struct kafka_member *member)
{
    return member_at(list_next(&member->group->members, &member->in_group));
}

static struct kafka_member *find_member(const struct kafka_group *group, struct span id)
{
    struct kafka_member *member = first(group);
    while (member != NULL && !span_is(id, member->id))
        member = next(member);
    return member;
}

struct kafka_group *kafka_group_find(const struct kafka *kafka, struct span name)
{
    for (struct list_link *link = list_first(&kafka->groups); link != NULL;
         link = list_next(&kafka->groups, link)) {
        struct kafka_group *group = container_of(link, struct kafka_group, in_kafka);
        if (span_is(name, group->name))
            return group;
    }
    return NULL;
}

static void heard(struct kafka_member *member)
{
    member->due_ms = kafka_now(member->group->kafka) + member->session_ms;
}

/* ---- answers ---- */

/* The member's connection waits no more. */
static struct kafka_conn *let_go(struct kafka_member *member)
{
    struct kafka_conn *conn = member->conn;
    member->conn = NULL;
    conn->member = NULL;
    heard(member);
    return conn;
}

static void say_join_failed(struct kafka_conn *conn, int16_t err)
{
    struct buf *out = kafka_answer(conn);
    if (conn->request.version >= 2)
        kafka_i32(out, 0); /* no throttling */
    kafka_i16(out, err);
    kafka_i32(out, -1);
    kafka_text(out, (struct span){0});
    kafka_text(out, (struct span){0});
    kafka_text(out, conn->request.member);
    kafka_i32(out, 0);
    kafka_answered(conn);
}

static const struct kafka_pair *protocol_of(const struct kafka_member *member, struct span name)
{
    for (size_t i = 0; i < member->protocol_count; i++)
        if (span_eq(member->protocols[i].name, name))
            return &member->protocols[i];
    return NULL;
}

/* Who leads gets what all of them have said. */
static void say_joined(struct kafka_member *member)
{
    const struct kafka_group *group = member->group;
    struct kafka_conn *conn = let_go(member);
    struct buf *out = kafka_answer(conn);
    bool leads = member == first(group);
    if (conn->request.version >= 2)
        kafka_i32(out, 0);
    kafka_i16(out, KAFKA_NONE);
    kafka_i32(out, group->generation);
    kafka_text(out, span_str(group->protocol));
    kafka_text(out, span_str(first(group)->id));
    kafka_text(out, span_str(member->id));
    kafka_i32(out, leads ? (int32_t)group->member_count : 0);
    for (struct kafka_member *m = leads ? first(group) : NULL; m != NULL; m = next(m)) {
        kafka_text(out, span_str(m->id));
        kafka_bytes(out, protocol_of(m, span_str(group->protocol))->bytes);
    }
    kafka_answered(conn);
}

static void say_sync(struct kafka_conn *conn, int16_t err, struct span assignment)
{
    struct buf *out = kafka_answer(conn);
    kafka_i16(out, err);
    kafka_bytes(out, assignment);
    kafka_answered(conn);
}

static void say_err(struct kafka_conn *conn, int16_t err)
{
    kafka_i16(kafka_answer(conn), err);
    kafka_answered(conn);
}

/* ---- members come and go ---- */

static void member_free(struct kafka_member *member)
{
    free(member->protocols);
    buf_close(&member->bytes);
    buf_close(&member->assignment);
    free(member);
}

void kafka_group_lost(struct kafka_group *group, int16_t err)
{
    for (struct kafka_member *member = first(group), *after; member != NULL; member = after) {
        after = next(member);
        struct kafka_conn *conn = member->conn != NULL ? let_go(member) : NULL;
        if (conn != NULL && conn->request.api == KAFKA_JOIN_GROUP)
            say_join_failed(conn, err);
        else if (conn != NULL)
            say_sync(conn, err, (struct span){0});
        member_free(member);
    }
    list_remove(&group->in_kafka);
    group->kafka->group_count--;
    metric_add(&groups, -1);
    kafka_lease_drop(group->lease);
    free(group->type);
    free(group->protocol);
    free(group);
}

/* That of who leads comes first, of those that all of them have. */
static const struct kafka_pair *shared_protocol(const struct kafka_group *group)
{
    const struct kafka_member *leader = first(group);
    for (size_t i = 0; i < leader->protocol_count; i++) {
        const struct kafka_member *member = leader;
        while (member != NULL && protocol_of(member, leader->protocols[i].name) != NULL)
            member = next(member);
        if (member == NULL)
            return &leader->protocols[i];
    }
    return NULL;
}

static void set_deadline(struct kafka_group *group)
{
    uint64_t most = 0;
    for (struct kafka_member *m = first(group); m != NULL; m = next(m))
        most = m->rebalance_ms > most ? m->rebalance_ms : most;
    group->join_until_ms = kafka_now(group->kafka) + most;
}

/* Everybody who is in has joined: the next generation begins. */
static void try_complete(struct kafka_group *group)
{
    if (group->state != KAFKA_JOINING || !group->lease->held)
        return;
    for (struct kafka_member *m = first(group); m != NULL; m = next(m))
        if (!m->ready)
            return;
    struct span protocol = shared_protocol(group)->name; /* who has none in common is not let in */
    free(group->protocol);
    group->protocol = xcalloc(1, protocol.n + 1);
    memcpy(group->protocol, protocol.p, protocol.n);
    group->generation++;
    group->state = KAFKA_SYNCING;
    set_deadline(group);
    metric_add(&rebalances, 1);
    for (struct kafka_member *m = first(group); m != NULL; m = next(m)) {
        m->ready = false;
        m->assignment.n = 0;
        say_joined(m);
    }
}

/* All have to join again. */
static void rebalance(struct kafka_group *group)
{
    if (group->state == KAFKA_JOINING)
        return;
    group->state = KAFKA_JOINING;
    for (struct kafka_member *m = first(group); m != NULL; m = next(m)) {
        m->ready = false;
        if (m->conn != NULL)
            say_sync(let_go(m), KAFKA_REBALANCE_IN_PROGRESS, (struct span){0});
    }
    set_deadline(group);
}

/* Without the last one the group ends. */
static void member_remove(struct kafka_member *member)
{
    struct kafka_group *group = member->group;
    ASSERT(member->conn == NULL);
    list_remove(&member->in_group);
    group->member_count--;
    member_free(member);
    if (group->member_count == 0) {
        kafka_group_lost(group, KAFKA_NOT_COORDINATOR);
        return;
    }
    rebalance(group);
    try_complete(group);
}

void kafka_member_unheard(struct kafka_conn *conn)
{
    struct kafka_member *member = conn->member;
    let_go(member);
    member->ready = false;
    if (member->group->state == KAFKA_JOINING) /* it may not even know its name yet */
        member_remove(member);
}

/* ---- joining ---- */

static void on_lease(struct kafka_lease *lease)
{
    if (lease->held)
        try_complete(lease->arg);
    else
        kafka_group_lost(lease->arg, lease->err);
}

static void on_lease_lost(struct kafka_lease *lease, int16_t err)
{
    kafka_group_lost(lease->arg, err);
}

static struct kafka_group *group_new(struct kafka_conn *conn)
{
    struct kafka *kafka = conn->kafka;
    const struct kafka_request *request = &conn->request;
    struct kafka_group *group = xcalloc(1, sizeof *group);
    group->kafka = kafka;
    memcpy(group->name, request->group.p, request->group.n);
    list_init(&group->members);
    group->type = xcalloc(1, request->protocol_type.n + 1);
    memcpy(group->type, request->protocol_type.p, request->protocol_type.n);
    group->lease = kafka_lease_new(kafka, request->group, conn->user, true);
    group->lease->arg = group;
    group->lease->done = on_lease;
    group->lease->lost = on_lease_lost;
    list_push(&kafka->groups, &group->in_kafka);
    kafka->group_count++;
    metric_add(&groups, 1);
    return group;
}

static struct kafka_member *member_new(struct kafka_group *group, struct span client)
{
    struct kafka_member *member = xcalloc(1, sizeof *member);
    int n = client.n < 64 ? (int)client.n : 64;
    member->group = group;
    snprintf(member->id, sizeof member->id, "%.*s-%016llx%016llx", n, n > 0 ? client.p : "",
             (unsigned long long)random_u64(), (unsigned long long)random_u64());
    list_push(&group->members, &member->in_group);
    group->member_count++;
    return member;
}

static void take_protocols(struct kafka_member *member, const struct kafka_request *request)
{
    size_t at = 0;
    member->bytes.n = 0;
    for (size_t i = 0; i < request->pair_count; i++) {
        buf_add_span(&member->bytes, request->pairs[i].name);
        buf_add_span(&member->bytes, request->pairs[i].bytes);
    }
    free(member->protocols);
    member->protocols = xcalloc(request->pair_count, sizeof *member->protocols);
    member->protocol_count = request->pair_count;
    for (size_t i = 0; i < request->pair_count; i++) {
        size_t name = request->pairs[i].name.n, bytes = request->pairs[i].bytes.n;
        member->protocols[i].name = span_of(member->bytes.p + at, name);
        member->protocols[i].bytes = span_of(member->bytes.p + at + name, bytes);
        at += name + bytes;
    }
}

/* Whether the others of the group have one of its protocols. */
static bool fits(const struct kafka_group *group, const struct kafka_request *request)
{
    if (!span_is(request->protocol_type, group->type))
        return false;
    for (size_t i = 0; i < request->pair_count; i++) {
        const struct kafka_member *m = first(group);
        while (m != NULL &&
               (span_is(request->member, m->id) || protocol_of(m, request->pairs[i].name) != NULL))
            m = next(m);
        if (m == NULL)
            return true;
    }
    return false;
}

/* Why it can't join; KAFKA_NONE. */
static int16_t join_error(const struct kafka *kafka, const struct kafka_group *group,
                          const struct kafka_request *request)
{
    size_t bytes = 0;
    for (size_t i = 0; i < request->pair_count; i++)
        bytes += request->pairs[i].name.n + request->pairs[i].bytes.n;
    if (!user_valid(request->group))
        return KAFKA_INVALID_GROUP_ID;
    if (request->session_ms < KAFKA_SESSION_MIN_MS || request->session_ms > KAFKA_SESSION_MAX_MS)
        return KAFKA_INVALID_SESSION_TIMEOUT;
    if (request->pair_count == 0 || request->protocol_type.n == 0 || bytes > KAFKA_MEMBER_BYTES)
        return KAFKA_INCONSISTENT_GROUP_PROTOCOL;
    if (request->member.n > 0 && (group == NULL || find_member(group, request->member) == NULL))
        return KAFKA_UNKNOWN_MEMBER_ID;
    if (group != NULL && !fits(group, request))
        return KAFKA_INCONSISTENT_GROUP_PROTOCOL;
    bool full = group == NULL ? kafka->group_count >= KAFKA_GROUPS_MAX
                              : group->member_count >= KAFKA_MEMBERS_MAX;
    if (request->member.n > 0 || !full)
        return KAFKA_NONE;
    bound_hit(BOUND_KAFKA_GROUPS);
    return group == NULL ? KAFKA_COORDINATOR_NOT_AVAILABLE : KAFKA_GROUP_MAX_SIZE_REACHED;
}

void kafka_do_join(struct kafka_conn *conn)
{
    const struct kafka_request *request = &conn->request;
    struct kafka_group *group = kafka_group_find(conn->kafka, request->group);
    int16_t err = join_error(conn->kafka, group, request);
    if (err != KAFKA_NONE) {
        say_join_failed(conn, err);
        return;
    }
    bool fresh = group == NULL;
    if (fresh)
        group = group_new(conn);
    struct kafka_member *member = find_member(group, request->member);
    if (member == NULL)
        member = member_new(group, request->client);
    else if (member->conn != NULL)
        kafka_conn_abort(let_go(member)); /* it has come by another way meanwhile */
    member->session_ms = (uint64_t)request->session_ms;
    member->rebalance_ms =
        (uint64_t)(request->rebalance_ms > 0 ? request->rebalance_ms : request->session_ms);
    take_protocols(member, request);
    rebalance(group);
    member->ready = true;
    member->conn = conn;
    conn->member = member;
    if (fresh)
        kafka_lease_take(group->lease);
    else
        try_complete(group);
}

/* ---- what is assigned ---- */

int16_t kafka_group_check(struct kafka_group *group, const struct kafka_request *request)
{
    struct kafka_member *member = find_member(group, request->member);
    if (member == NULL)
        return KAFKA_UNKNOWN_MEMBER_ID;
    if (request->generation != group->generation)
        return KAFKA_ILLEGAL_GENERATION;
    heard(member);
    return KAFKA_NONE;
}

static int16_t check(const struct kafka_conn *conn, struct kafka_group **group)
{
    int16_t err = KAFKA_UNKNOWN_MEMBER_ID;
    *group = kafka_group_find(conn->kafka, conn->request.group);
    if (*group != NULL)
        err = kafka_group_check(*group, &conn->request);
    if (err == KAFKA_NONE && (*group)->state == KAFKA_JOINING)
        err = KAFKA_REBALANCE_IN_PROGRESS;
    return err;
}

static void assign(struct kafka_group *group, const struct kafka_request *request)
{
    for (size_t i = 0; i < request->pair_count; i++) {
        struct kafka_member *member = find_member(group, request->pairs[i].name);
        if (member == NULL)
            continue;
        member->assignment.n = 0;
        buf_add_span(&member->assignment, request->pairs[i].bytes);
    }
    group->state = KAFKA_STABLE;
    for (struct kafka_member *m = first(group); m != NULL; m = next(m))
        if (m->conn != NULL)
            say_sync(let_go(m), KAFKA_NONE, buf_span(&m->assignment));
}

void kafka_do_sync(struct kafka_conn *conn)
{
    struct kafka_group *group;
    int16_t err = check(conn, &group);
    if (err != KAFKA_NONE) {
        say_sync(conn, err, (struct span){0});
        return;
    }
    struct kafka_member *member = find_member(group, conn->request.member);
    if (group->state == KAFKA_STABLE) {
        say_sync(conn, KAFKA_NONE, buf_span(&member->assignment));
        return;
    }
    if (member->conn != NULL)
        kafka_conn_abort(let_go(member));
    member->ready = true;
    member->conn = conn;
    conn->member = member;
    if (member == first(group))
        assign(group, &conn->request);
}

void kafka_do_heartbeat(struct kafka_conn *conn)
{
    struct kafka_group *group;
    say_err(conn, check(conn, &group));
}

void kafka_do_leave(struct kafka_conn *conn)
{
    struct kafka_group *group = kafka_group_find(conn->kafka, conn->request.group);
    struct kafka_member *member = group != NULL ? find_member(group, conn->request.member) : NULL;
    say_err(conn, member != NULL ? KAFKA_NONE : KAFKA_UNKNOWN_MEMBER_ID);
    if (member == NULL)
        return;
    if (member->conn != NULL)
        kafka_conn_abort(let_go(member));
    member_remove(member);
}

/* ---- deadlines ---- */

/* Who was not heard of, has not joined again, or does not ask what it is assigned. */
static struct kafka_member *find_late(const struct kafka_group *group)
{
    uint64_t now = kafka_now(group->kafka);
    bool over = group->state != KAFKA_STABLE && now >= group->join_until_ms;
    for (struct kafka_member *m = first(group); m != NULL; m = next(m))
        if (m->conn == NULL && (now >= m->due_ms || (over && !m->ready)))
            return m;
    return NULL;
}

void kafka_groups_tick(struct kafka *kafka)
{
    for (struct list_link *link = list_first(&kafka->groups), *after; link != NULL; link = after) {
        struct kafka_group *group = container_of(link, struct kafka_group, in_kafka);
        after = list_next(&kafka->groups, link);
        struct kafka_member *late = find_late(group);
        if (late != NULL)
            member_remove(late); /* the others in the next tick */
        else
            kafka_lease_tick(group->lease);
    }
}

void kafka_groups_leave(struct kafka *kafka)
{
    for (struct list_link *link = list_first(&kafka->groups), *after; link != NULL; link = after) {
        after = list_next(&kafka->groups, link);
        kafka_group_lost(container_of(link, struct kafka_group, in_kafka), KAFKA_NOT_COORDINATOR);
    }
}
