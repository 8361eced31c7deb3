/* gateway/list.c: the conversations of a user: `list`, sorted by what is newest, and `sync`, in
 * pages as they are stored, which makes the session live. Ids come from the user's partition, what
 * is seen of each from its own, in batches whose answers fit into a message of the link.
 * Limits: GATHER_READS_MAX reads at once for each call; `list` keeps what its page shows and one
 *         batch of ids, however many conversations there are. */
#include <stdio.h>
#include <stdlib.h>

#include "gateway/blocks.h"
#include "gateway/follow.h"
#include "gateway/proto.h"
#include "gateway/say.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/record.h"

enum {
    GATHER_READS_MAX = 8,
    GATHER_BATCH_MAX = 64,
    GATHER_ANSWER_BYTES = LINK_MESSAGE_MAX / 4 * 3,
    GATHER_INFO_BYTES = 4096, /* of an answer for each conversation, beside its last message */
    GATHER_TRIES_MAX = 4,
};

struct wanted {
    uint32_t partition;
    char conv[CONV_ID_MAX + 1];
};

struct found { /* a conversation, as JSON in gather->text */
    char conv[CONV_ID_MAX + 1];
    uint64_t head, since, newest_ms;
    bool pinned;
    size_t at, size;
};

/* What the user has set of one. */
struct set {
    uint64_t muted_until, hidden_ms;
    bool pinned;
    char draft[];
};

struct gather {
    bool sync;
    uint32_t waiting; /* reads under way */
    uint32_t tries;
    int err;
    uint64_t limit, user_head;
    char first[CONV_ID_MAX + 1]; /* page of ids asked for */
    char after[CONV_ID_MAX + 1]; /* where the next begins; empty: the end */
    struct wanted *wanted;       /* of the page of ids in work, by partition */
    size_t wanted_count, asked, seen;
    struct found *found;
    size_t count, cap;
    struct map sets; /* conversation → struct set, of the page of ids in work */
    struct buf text;
    bool archive; /* list: only hidden ones, else the others */
    /* list: what the page asked for comes after */
    uint64_t page_ms;
    bool page_pinned;
    char page_conv[CONV_ID_MAX + 1];
};

static struct map_key key_of(struct span conv)
{
    struct conv_id id = conv_id_of(conv);
    return (struct map_key){id.hi, id.lo};
}

static void drop_sets(struct gather *gather)
{
    for (struct map_slot *s = map_each(&gather->sets, NULL); s; s = map_each(&gather->sets, s))
        free(s->val.p);
    map_clear(&gather->sets);
}

static void take_sets(struct gather *gather, const Loquat__Reply *reply)
{
    drop_sets(gather);
    for (size_t i = 0; i < reply->n_rows; i++) {
        const Loquat__UserConv *row = reply->rows[i];
        size_t size = strlen(row->draft) + 1;
        struct set *set = xmalloc(sizeof *set + size);
        *set = (struct set){row->muted_until, row->hidden, row->pinned != 0};
        memcpy(set->draft, row->draft, size);
        bool fresh;
        union map_val *val = map_put(&gather->sets, key_of(span_str(row->conv)), &fresh);
        if (!fresh)
            free(val->p);
        val->p = set;
    }
}

static void gather_free(struct gather *gather)
{
    drop_sets(gather);
    map_close(&gather->sets);
    free(gather->wanted);
    free(gather->found);
    buf_close(&gather->text);
    free(gather);
}

static void fail(struct call *call, int err)
{
    gather_free(call->state);
    call_fail(call, err, NULL, 0);
}

static void on_ids(void *owner, const Loquat__Reply *reply);

static bool ask_ids(struct call *call)
{
    struct gather *gather = call->state;
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_USER;
    read.user = call->conn->who->user;
    read.partition =
        partition_of(user_log_id(span_str(read.user)), call->conn->gate->cluster.partitions);
    read.after = gather->after;
    read.max = gather->sync ? (uint32_t)gather->limit : PROTO_PAGE_MAX;
    read.settings = gather->sync && gather->after[0] == 0;
    return call_read(call, &read, on_ids);
}

/* ---- what is seen of each ---- */

static int add_found(struct call *call, const Loquat__ConvInfo *info)
{
    struct gather *gather = call->state;
    if (gather->count == gather->cap) {
        gather->cap = gather->cap == 0 ? 64 : gather->cap * 2;
        gather->found = xrealloc(gather->found, gather->cap * sizeof *gather->found);
    }
    struct span name = span_str(info->conv);
    struct say_place place = {
        .conv = name,
        .partition = partition_of(conv_id_of(name), call->conn->gate->cluster.partitions),
        .self = span_str(call->conn->who->user)};
    struct found *found = &gather->found[gather->count];
    *found = (struct found){.head = info->head, .since = info->since, .at = gather->text.n};
    if (name.n > CONV_ID_MAX)
        return ERR_CORRUPT;
    memcpy(found->conv, name.p, name.n);
    struct record_view room;
    const struct record_view *record = NULL;
    int err = 0;
    if (info->last != NULL)
        err = say_view(info->last, &room, &record);
    if (err != 0)
        return err;
    found->newest_ms = say_newest(info, record);
    const union map_val *val = map_get(&gather->sets, key_of(name));
    struct say_prefs prefs = {0};
    if (val != NULL) {
        const struct set *set = val->p;
        prefs = (struct say_prefs){set->muted_until, set->pinned,
                                   set->hidden_ms != 0 && found->newest_ms < set->hidden_ms,
                                   span_str(set->draft)};
    }
    if (!gather->sync && prefs.hidden != gather->archive)
        return 0;
    found->pinned = prefs.pinned;
    err = say_conv(&gather->text, &place, info, &prefs);
    if (err != 0)
        return err;
    found->size = gather->text.n - found->at;
    gather->count++;
    return 0;
}

static void on_infos(void *owner, const Loquat__Reply *reply);

/* The last message of each may be as long as a frame, and edited to another as long. */
static size_t batch_max(const struct gate *gate)
{
    size_t n = GATHER_ANSWER_BYTES / (2 * gate->settings->frame_max + GATHER_INFO_BYTES);
    return n < 1 ? 1 : n < GATHER_BATCH_MAX ? n : GATHER_BATCH_MAX;
}

static bool ask_batch(struct call *call)
{
    struct gather *gather = call->state;
    const struct wanted *first = &gather->wanted[gather->asked];
    char *names[GATHER_BATCH_MAX];
    size_t n = 0, most = batch_max(call->conn->gate);
    while (n < most && gather->asked + n < gather->wanted_count &&
           first[n].partition == first->partition) {
        names[n] = gather->wanted[gather->asked + n].conv;
        n++;
    }
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_CONVS;
    read.user = call->conn->who->user;
    read.partition = first->partition;
    read.convs = names;
    read.n_convs = n;
    if (!call_read(call, &read, on_infos))
        return false;
    gather->asked += n;
    gather->waiting++;
    return true;
}

static void page_done(struct call *call);

static void go_on(struct call *call)
{
    struct gather *gather = call->state;
    while (gather->err == 0 && gather->waiting < GATHER_READS_MAX &&
           gather->asked < gather->wanted_count)
        if (!ask_batch(call))
            gather->err = ERR_BUSY;
    if (gather->waiting == 0)
        page_done(call);
}

static void on_infos(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    struct gather *gather = call->state;
    gather->waiting--;
    if (gather->err == 0)
        gather->err = conn_gone(call->conn) ? ERR_CLOSED : reply->err;
    for (size_t i = 0; i < reply->n_convs && gather->err == 0; i++)
        if (reply->convs[i]->err == 0) /* else: left meanwhile */
            gather->err = add_found(call, reply->convs[i]);
    go_on(call);
}

/* ---- which there are ---- */

static int by_partition(const void *a, const void *b)
{
    const struct wanted *x = a, *y = b;
    return x->partition < y->partition ? -1 : x->partition > y->partition;
}

static int take_ids(struct call *call, const Loquat__Reply *reply)
{
    struct gather *gather = call->state;
    free(gather->wanted);
    gather->wanted = xcalloc(reply->n_ids + 1, sizeof *gather->wanted);
    gather->wanted_count = gather->asked = 0;
    for (size_t i = 0; i < reply->n_ids; i++) {
        struct wanted *wanted = &gather->wanted[gather->wanted_count++];
        struct span name = span_str(reply->ids[i]);
        if (name.n > CONV_ID_MAX)
            return ERR_CORRUPT;
        memcpy(wanted->conv, name.p, name.n);
        wanted->partition = partition_of(conv_id_of(name), call->conn->gate->cluster.partitions);
    }
    qsort(gather->wanted, gather->wanted_count, sizeof *gather->wanted, by_partition);
    snprintf(gather->after, sizeof gather->after, "%s", reply->after);
    gather->user_head = reply->head;
    take_sets(gather, reply);
    gather->seen += reply->n_ids;
    return !gather->sync && gather->seen > PROTO_USER_CONVS_MAX ? ERR_TOO_LARGE : 0;
}

static void on_ids(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    struct gather *gather = call->state;
    if (reply->err != 0) {
        gather_free(gather);
        call_fail_reply(call, reply);
        return;
    }
    gather->err = conn_gone(call->conn) ? ERR_CLOSED : take_ids(call, reply);
    if (gather->err == 0 && reply->settings != NULL)
        blocks_set(call->conn->session, reply->settings);
    go_on(call);
}

/* The own log may have told this loop's sessions more than what was read here knows of; who began
 * to follow it now would miss that. */
static bool is_stale(struct call *call)
{
    const struct gather *gather = call->state;
    struct span user = span_str(call->conn->who->user);
    const struct fanout *fanout = &call->conn->gate->fanout;
    return gather->sync && fanout_user_head(fanout, user) > gather->user_head &&
           follow_find(call->conn->session, fanout_find_user(fanout, user)) == NULL;
}

static bool begin_again(struct call *call)
{
    struct gather *gather = call->state;
    if (++gather->tries == GATHER_TRIES_MAX)
        return false;
    gather->count = gather->text.n = 0;
    memcpy(gather->after, gather->first, sizeof gather->after);
    return ask_ids(call);
}

static void prune(struct gather *gather);
static void finish(struct call *call);

/* What the page of ids names is known. */
static void page_done(struct call *call)
{
    struct gather *gather = call->state;
    if (gather->err == 0 && !gather->sync)
        prune(gather);
    if (gather->err != 0) {
        fail(call, gather->err);
    } else if (is_stale(call)) {
        if (!begin_again(call))
            fail(call, ERR_BUSY);
    } else if (!gather->sync && gather->after[0] != 0) {
        if (!ask_ids(call))
            fail(call, ERR_BUSY);
    } else {
        finish(call);
    }
}

/* ---- list: pinned first, then newest ---- */

static int by_newest(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    if (x->pinned != y->pinned)
        return x->pinned ? -1 : 1;
    if (x->newest_ms != y->newest_ms)
        return x->newest_ms < y->newest_ms ? 1 : -1;
    return strcmp(x->conv, y->conv);
}

static bool after_page(const struct gather *gather, const struct found *found)
{
    if (gather->page_conv[0] == 0)
        return true;
    struct found last = {.newest_ms = gather->page_ms, .pinned = gather->page_pinned};
    memcpy(last.conv, gather->page_conv, sizeof last.conv);
    return by_newest(&last, found) < 0;
}

/* Keeps what the page asked for will show, and one more if there is one: so there is a next. */
static void prune(struct gather *gather)
{
    struct buf kept = {0};
    size_t n = 0;
    if (gather->count > 0)
        qsort(gather->found, gather->count, sizeof *gather->found, by_newest);
    for (size_t i = 0; i < gather->count && n <= gather->limit; i++) {
        struct found found = gather->found[i];
        if (!after_page(gather, &found))
            continue;
        const char *json = gather->text.p + found.at;
        found.at = kept.n;
        buf_add(&kept, json, found.size);
        gather->found[n++] = found;
    }
    gather->count = n;
    buf_close(&gather->text);
    gather->text = kept;
}

static void say_list(struct call *call)
{
    const struct gather *gather = call->state;
    struct buf *text = call_begin(call);
    if (text == NULL)
        return;
    size_t at = 0;
    buf_add_str(text, "{\"convs\":[");
    for (; at < gather->count && at < gather->limit; at++) {
        if (at > 0)
            buf_add_byte(text, ',');
        buf_add(text, gather->text.p + gather->found[at].at, gather->found[at].size);
    }
    buf_add_str(text, "],\"next\":");
    if (at < gather->count && at > 0)
        buf_addf(text, "\"%s%llu:%s\"", gather->found[at - 1].pinned ? "p" : "",
                 (unsigned long long)gather->found[at - 1].newest_ms, gather->found[at - 1].conv);
    else
        buf_add_str(text, "null");
    buf_add_byte(text, '}');
}

/* ---- sync ---- */

void proto_drop_cursors(struct session *session)
{
    if (session->cursors == NULL)
        return;
    map_close(session->cursors);
    free(session->cursors);
    session->cursors = NULL;
}

static bool keep_cursor(void *arg, const struct json_field *field)
{
    struct session *session = arg;
    bool fresh;
    if (field->val.type != JSON_NUMBER || !field->val.is_whole || field->val.whole < 0)
        return false;
    if (session->cursors->count == SESSION_FOLLOWS_MAX)
        return false;
    map_put(session->cursors, key_of(field->name), &fresh)->u = (uint64_t)field->val.whole;
    return true;
}

/* Cursors come with the first page and hold for the others too. */
static int take_cursors(struct request *request)
{
    struct session *session = request->conn->session;
    const struct json_val *cur = json_get(request->obj, "cur");
    if (json_get(request->obj, "page") == NULL)
        proto_drop_cursors(session);
    if (cur == NULL || cur->type == JSON_NULL)
        return 0;
    if (session->cursors == NULL) {
        session->cursors = xcalloc(1, sizeof *session->cursors);
        map_init(session->cursors);
    }
    if (json_each(request->conn->gate->json, cur, keep_cursor, session) != 0)
        return field_error(request, ERR_BAD_REQUEST, "cur",
                           "must be an object of conversations and sequences, 20,000 at most");
    return 0;
}

static void go_live(struct session *session, const struct gather *gather)
{
    struct conn *conn = session->conn;
    if (session->count == 0)
        follow_reserve(session, (uint32_t)gather->count + 1);
    follow_add(session, span_str(conn->who->user), true, gather->user_head);
    for (size_t i = 0; i < gather->count; i++) {
        const struct found *found = &gather->found[i];
        struct span name = span_str(found->conv);
        union map_val *cursor =
            session->cursors != NULL ? map_get(session->cursors, key_of(name)) : NULL;
        uint64_t from = cursor != NULL && cursor->u < found->head ? cursor->u : found->head;
        struct follow *follow = follow_find(session, fanout_find(&conn->gate->fanout, name));
        if (follow != NULL && cursor != NULL)
            follow_resume(session, follow, from);
        else if (follow == NULL && follow_begin(session, name, from, found->since) != 0)
            return; /* as many as a session may follow */
    }
    if (gather->after[0] == 0)
        proto_drop_cursors(session);
}

static void say_sync(struct call *call)
{
    struct gather *gather = call->state;
    struct buf *text = call_begin(call);
    if (text == NULL)
        return;
    buf_addf(text, "{\"u\":%llu,\"convs\":[", (unsigned long long)gather->user_head);
    for (size_t i = 0; i < gather->count; i++) {
        if (i > 0)
            buf_add_byte(text, ',');
        buf_add(text, gather->text.p + gather->found[i].at, gather->found[i].size);
    }
    buf_add_str(text, "],\"next\":");
    if (gather->after[0] != 0)
        json_put_string(text, span_str(gather->after));
    else
        buf_add_str(text, "null");
    buf_add_byte(text, '}');
}

static void finish(struct call *call)
{
    struct gather *gather = call->state;
    struct session *session = call->conn->session;
    if (gather->sync)
        say_sync(call);
    else
        say_list(call);
    struct conn *conn = call->conn;
    conn_ref(conn);
    call_ok(call);
    if (gather->sync && !conn_gone(conn))
        go_live(session, gather);
    conn_unref(conn);
    gather_free(gather);
}

/* ---- the operations ---- */

static int begin(struct request *request, bool sync, uint64_t most)
{
    uint64_t limit = sync ? most : PROTO_LIST_DEFAULT;
    struct span page = {0};
    int err = field_whole(request, "limit", 1, most, &limit);
    if (err == 0)
        err = field_text(request, "page", CONV_ID_MAX + 24, &page);
    if (err == 0 && sync)
        err = take_cursors(request);
    if (err != 0)
        return err;
    const struct json_val *archive = json_get(request->obj, "hidden");
    if (archive != NULL && archive->type != JSON_NULL && archive->type != JSON_BOOL)
        return field_error(request, ERR_BAD_REQUEST, "hidden", "is true or false");
    struct gather *gather = xcalloc(1, sizeof *gather);
    map_init(&gather->sets);
    gather->sync = sync;
    gather->archive = archive != NULL && archive->truth;
    gather->limit = limit;
    request->call->state = gather;
    bool fine = true;
    if (page.n > 0 && sync) {
        fine = conv_name_valid(page);
        if (fine)
            memcpy(gather->first, page.p, page.n);
        memcpy(gather->after, gather->first, sizeof gather->after);
    } else if (page.n > 0) {
        char *text = field_copy(request, page), *colon = strchr(text, ':');
        char *end = NULL;
        gather->page_pinned = text[0] == 'p';
        text += gather->page_pinned;
        gather->page_ms = strtoull(text, &end, 10);
        fine = colon != NULL && end == colon && conv_name_valid(span_str(colon + 1));
        if (fine)
            memcpy(gather->page_conv, colon + 1, strlen(colon + 1));
    }
    err = fine ? 0
               : field_error(request, ERR_BAD_REQUEST, "page", "must be a `next` as it was given");
    if (err == 0 && !ask_ids(request->call))
        err = ERR_BUSY;
    if (err != 0)
        gather_free(gather);
    return err;
}

int op_list(struct request *request)
{
    return begin(request, false, PROTO_LIST_MAX);
}

int op_sync(struct request *request)
{
    return begin(request, true, PROTO_LIST_MAX);
}
