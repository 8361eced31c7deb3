#include "gateway/marks.h"

#include <stdlib.h>

#include "gateway/blocks.h"
#include "gateway/follow.h"
#include "gateway/say.h"
#include "store/base/check.h"
#include "store/base/err.h"

enum {
    MARKS_MEMBERS_MAX = 32, /* of a conversation whose marks are told */
    MARKS_AGAIN_MAX = 4,    /* read at once after the node was away: others want it, too */
};

static void on_marked(void *owner, const Loquat__Reply *reply)
{
    (void)reply; /* a mark without an id has no answer; the next one carries the same and more */
    conn_unref(owner);
}

static void write_one(struct conn *conn, struct span conv, uint64_t read, uint64_t delivered)
{
    char name[CONV_ID_MAX + 1] = {0};
    memcpy(name, conv.p, conv.n);
    Loquat__Command command = LOQUAT__COMMAND__INIT;
    command.op = LOQUAT__OP__OP_MARK;
    command.user = conn->who->user;
    command.conv = name;
    command.read = read;
    command.delivered = delivered;
    uint32_t partition = partition_of(conv_id_of(conv), conn->gate->cluster.partitions);
    if (cluster_write(&conn->gate->cluster, partition, &command, on_marked, conn) == 0)
        conn_ref(conn);
}

void marks_write(struct session *session)
{
    for (uint32_t i = 0; i < session->mark_count; i++) {
        const struct mark *mark = &session->marks[i];
        write_one(session->conn, span_str(mark->conv), mark->read, mark->delivered);
    }
    free(session->marks);
    session->marks = NULL;
    session->mark_count = 0;
    if (session->in_marking.next != NULL)
        list_remove(&session->in_marking);
}

/* ---- of others ---- */

struct finding {
    struct conn *conn;
    char conv[CONV_ID_MAX + 1];
};

void marks_lose(struct session *session, struct follow *follow)
{
    session->marks_lost += !follow->marks_lost;
    follow->marks_lost = true;
}

static void try_later(struct session *session) /* by the loop's sweep */
{
    if (session->in_hungry.next == NULL)
        list_push(&session->conn->gate->hungry, &session->in_hungry);
}

/* `reader`: whom they are for; NULL: for all who have blocked nobody. */
static void write_marks(struct buf *text, const char *conv, const Loquat__Reply *reply,
                        const struct session *reader)
{
    for (size_t i = 0; i < reply->n_members; i++) {
        const Loquat__Member *member = reply->members[i];
        if (reader != NULL && blocks_has(reader, member->user))
            continue;
        if (text->n > 0)
            buf_add_byte(text, '\n');
        say_mark(text, conv, member->user, member->read, member->delivered);
    }
}

static void say_marks(struct conn *conn, const char *conv, const Loquat__Reply *reply)
{
    struct buf text = {0};
    write_marks(&text, conv, reply, conn->session);
    if (text.n > 0)
        session_say(conn, buf_span(&text));
    buf_close(&text);
}

static void take_found(struct conn *conn, const char *conv, const Loquat__Reply *reply)
{
    struct session *session = conn->session;
    session->marks_reading = false;
    if (err_retry(reply->err)) {
        struct follow *follow =
            follow_find(session, fanout_find(&conn->gate->fanout, span_str(conv)));
        if (follow != NULL)
            marks_lose(session, follow);
        try_later(session);
        return;
    }
    if (reply->err == 0 && reply->after[0] == '\0') /* larger groups are told of no marks */
        say_marks(conn, conv, reply);
    marks_find(session);
}

static void on_found(void *owner, const Loquat__Reply *reply)
{
    struct finding *finding = owner;
    struct conn *conn = finding->conn;
    if (!conn_gone(conn) && conn->session != NULL)
        take_found(conn, finding->conv, reply);
    free(finding);
    conn_unref(conn);
}

static bool find_of(struct session *session, struct follow *follow)
{
    struct conn *conn = session->conn;
    struct finding *finding = xcalloc(1, sizeof *finding);
    finding->conn = conn;
    memcpy(finding->conv, follow->topic->name, strlen(follow->topic->name));
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_MEMBERS;
    read.partition = follow->topic->partition;
    read.conv = finding->conv;
    read.user = conn->who->user;
    read.max = MARKS_MEMBERS_MAX;
    if (cluster_read(&conn->gate->cluster, &read, on_found, finding) != 0) {
        free(finding);
        return false;
    }
    conn_ref(conn);
    return true;
}

void marks_find(struct session *session)
{
    if (session->marks_lost == 0 || session->marks_reading ||
        session->conn->out.bytes > CONN_OUT_LOW)
        return;
    for (uint32_t i = 0; i < session->count; i++) {
        struct follow *follow = &session->follows[i];
        if (!follow->marks_lost)
            continue;
        if (find_of(session, follow)) {
            session->marks_reading = true;
            session->marks_lost--;
            follow->marks_lost = false;
        } else {
            try_later(session);
        }
        return;
    }
}

/* ---- of everybody, after the node was away ---- */

struct again {
    struct gate *gate;
    char conv[CONV_ID_MAX + 1];
};

/* Who has blocked somebody is not shown all of them, and reads by himself. */
static void leave_blockers(struct topic *topic)
{
    for (uint32_t i = 0; i < topic->count; i++) {
        struct session *session = topic->entries[i].session;
        if (session->stream || session->blocks == NULL)
            continue;
        marks_lose(session, &session->follows[topic->entries[i].follow]);
        try_later(session);
    }
}

static bool is_member(const struct session *session, const void *arg)
{
    const Loquat__Reply *reply = arg;
    if (session->blocks != NULL)
        return false;
    for (size_t i = 0; i < reply->n_members; i++)
        if (strcmp(reply->members[i]->user, session->conn->who->user) == 0)
            return true;
    return false;
}

static void on_again(void *owner, const Loquat__Reply *reply)
{
    struct again *again = owner;
    struct fanout *fanout = &again->gate->fanout;
    struct topic *topic = fanout_find(fanout, span_str(again->conv));
    fanout->marks_reading--;
    if (topic != NULL && err_retry(reply->err)) {
        if (topic->in_unmarked.next == NULL)
            list_push(&fanout->unmarked, &topic->in_unmarked); /* for the loop's sweep */
    } else {
        if (topic != NULL && reply->err == 0 && reply->n_members > 0 && reply->after[0] == '\0') {
            struct buf *text = &again->gate->answer;
            text->n = 0;
            write_marks(text, topic->name, reply, NULL);
            fanout_tell_marks(topic, buf_span(text), is_member, reply);
            leave_blockers(topic);
        }
        marks_again(again->gate);
    }
    free(again);
}

static bool read_again(struct gate *gate, const struct topic *topic)
{
    struct again *again = xcalloc(1, sizeof *again);
    again->gate = gate;
    memcpy(again->conv, topic->name, strlen(topic->name));
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_MEMBERS;
    read.partition = topic->partition;
    read.conv = again->conv;
    read.all = true;
    read.max = MARKS_MEMBERS_MAX;
    if (cluster_read(&gate->cluster, &read, on_again, again) == 0)
        return true;
    free(again);
    return false;
}

void marks_again(struct gate *gate)
{
    struct fanout *fanout = &gate->fanout;
    while (cluster_ready(&gate->cluster) && fanout->marks_reading < MARKS_AGAIN_MAX) {
        struct list_link *link = list_first(&fanout->unmarked);
        if (link == NULL || !read_again(gate, container_of(link, struct topic, in_unmarked)))
            return;
        list_remove(link);
        fanout->marks_reading++;
    }
}

/* ---- of the client ---- */

void marks_add(struct session *session, struct span conv, uint64_t read, uint64_t delivered)
{
    for (uint32_t i = 0; i < session->mark_count; i++) {
        struct mark *mark = &session->marks[i];
        if (!span_is(conv, mark->conv))
            continue;
        mark->read = read > mark->read ? read : mark->read;
        mark->delivered = delivered > mark->delivered ? delivered : mark->delivered;
        return;
    }
    if (session->mark_count == SESSION_MARKS_MAX)
        marks_write(session);
    if (session->marks == NULL) {
        session->marks = xcalloc(SESSION_MARKS_MAX, sizeof *session->marks);
        session->marks_due_ms = session->conn->gate->now_ms + SESSION_MARK_MS;
        list_push(&session->conn->gate->marking, &session->in_marking);
    }
    struct mark *mark = &session->marks[session->mark_count++];
    *mark = (struct mark){.read = read, .delivered = delivered};
    memcpy(mark->conv, conv.p, conv.n);
}
