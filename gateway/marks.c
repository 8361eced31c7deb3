#include "gateway/marks.h"

#include <stdlib.h>

#include "store/base/check.h"

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
    uint32_t partition = partition_of(conv_id_of(conv), conn->gate->up.partitions);
    if (upstream_write(&conn->gate->up, partition, &command, on_marked, conn) == 0)
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
