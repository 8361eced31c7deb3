/* gateway/search.c: `search`: asks the partitions of the conversations that it goes over, and puts
 * what they find together, newest first. Ids of a user's conversations come from the user's
 * partition.
 * Paging: `next` is a mid: what is older than it comes on the next page. A partition that came to
 *         its limit says how far down it has looked; what others found below that waits for the
 *         next page as well, so nothing is skipped and nothing comes twice.
 * Limits: SEARCH_READS_MAX reads at once for each call; SEARCH_ROUNDS_MAX rounds while nothing is
 *         found. */
#include <stdio.h>
#include <stdlib.h>

#include "gateway/proto.h"
#include "gateway/say.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/record.h"

enum {
    SEARCH_READS_MAX = 16,
    SEARCH_BATCH_MAX = 500, /* conversations of one read */
    SEARCH_ROUNDS_MAX = 20,
    SEARCH_LIMIT_DEFAULT = 20,
    SEARCH_LIMIT_MAX = 100,
    SEARCH_TEXT_MAX = 4096,
    SEARCH_OLD_MS = 5000, /* an upgrade takes a while */
};

struct sought { /* a conversation to be looked through */
    uint32_t partition;
    char conv[CONV_ID_MAX + 1];
};
struct hit { /* as JSON in search->text */
    uint64_t mid;
    size_t at, n;
};
struct search {
    char *q, *from_user, *xkind, *has;
    Loquat__Search what;
    uint64_t below, limit; /* below: a mid; 0: none */
    char after[CONV_ID_MAX + 1];
    struct sought *sought;
    size_t sought_count, sought_cap, asked;
    uint32_t waiting, rounds;
    int err;
    struct hit *hits;
    size_t count, cap;
    struct buf text;
    uint64_t bound, behind; /* bound: what is older was not looked at everywhere; 0: it was */
    bool partial;
    bool old; /* a node was asked that can't search */
};

static void search_free(struct search *search)
{
    free(search->q);
    free(search->from_user);
    free(search->xkind);
    free(search->has);
    free(search->sought);
    free(search->hits);
    buf_close(&search->text);
    free(search);
}

static void fail(struct call *call, int err, const Loquat__Reply *reply)
{
    struct search *search = call->state;
    bool old = search->old;
    search_free(search);
    if (reply != NULL)
        call_fail_reply(call, reply);
    else if (old)
        call_fail(call, err, "a node of an older release can't search; it is being upgraded",
                  SEARCH_OLD_MS);
    else
        call_fail(call, err, NULL, 0);
}

/* ---- what was found ---- */

static int take_hit(struct call *call, const Loquat__Hit *hit)
{
    struct search *search = call->state;
    struct span name = span_str(hit->conv);
    struct say_place place = {
        .conv = name,
        .partition = partition_of(conv_id_of(name), call->conn->gate->cluster.partitions),
        .self = span_str(call->conn->who->user)};
    struct buf *text = &search->text;
    if (search->count == search->cap) {
        search->cap = search->cap == 0 ? 64 : search->cap * 2;
        search->hits = xrealloc(search->hits, search->cap * sizeof *search->hits);
    }
    struct hit *made = &search->hits[search->count++];
    *made = (struct hit){.mid = hit->mid, .at = text->n};
    buf_add_str(text, "{\"c\":");
    json_put_string(text, name);
    buf_addf(text, ",\"s\":%llu,\"record\":", (unsigned long long)hit->item->seq);
    int err = say_element(text, &place, hit->item);
    buf_add_str(text, ",\"spans\":[");
    for (size_t i = 0; i + 1 < hit->n_spans; i += 2)
        buf_addf(text, "%s[%u,%u]", i > 0 ? "," : "", hit->spans[i], hit->spans[i + 1]);
    buf_add_str(text, "]}");
    made->n = text->n - made->at;
    return err;
}

static int newest_first(const void *a, const void *b)
{
    const struct hit *x = a, *y = b;
    return x->mid > y->mid ? -1 : x->mid < y->mid;
}

static void answer(struct call *call)
{
    struct search *search = call->state;
    size_t n = 0;
    while (n < search->count && n < search->limit && search->hits[n].mid >= search->bound)
        n++;
    uint64_t next =
        n > 0 && n < search->count && n == search->limit ? search->hits[n - 1].mid : search->bound;
    struct buf *text = call_begin(call);
    if (text != NULL) {
        buf_add_str(text, "{\"hits\":[");
        for (size_t i = 0; i < n; i++) {
            if (i > 0)
                buf_add_byte(text, ',');
            buf_add(text, search->text.p + search->hits[i].at, search->hits[i].n);
        }
        buf_add_str(text, "],\"next\":");
        if (next > 0)
            json_put_u64_string(text, next);
        else
            buf_add_str(text, "null");
        buf_addf(text, ",\"indexed\":{\"behind\":%llu,\"complete\":%s}}",
                 (unsigned long long)search->behind, search->partial ? "false" : "true");
    }
    search_free(search);
    call_ok(call);
}

/* ---- asking ---- */

static void go_on(struct call *call);

/* What is asked is in order: who says that it is not is a node of before, which can't search. */
static int why_not(const struct call *call, const Loquat__Reply *reply)
{
    struct search *search = call->state;
    if (conn_gone(call->conn))
        return ERR_CLOSED;
    search->old = reply->err == ERR_BAD_REQUEST;
    return search->old ? ERR_UNAVAILABLE : reply->err;
}

static void on_hits(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    struct search *search = call->state;
    search->waiting--;
    if (search->err == 0)
        search->err = why_not(call, reply);
    for (size_t i = 0; i < reply->n_hits && search->err == 0; i++)
        search->err = take_hit(call, reply->hits[i]);
    if (reply->next > search->bound)
        search->bound = reply->next;
    search->behind += reply->behind;
    search->partial |= reply->partial;
    go_on(call);
}

static bool ask_batch(struct call *call)
{
    struct search *search = call->state;
    const struct sought *first = &search->sought[search->asked];
    char *names[SEARCH_BATCH_MAX];
    size_t n = 0;
    while (n < SEARCH_BATCH_MAX && search->asked + n < search->sought_count &&
           first[n].partition == first->partition) {
        names[n] = search->sought[search->asked + n].conv;
        n++;
    }
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_SEARCH;
    read.user = call->conn->who->user;
    read.all = call->conn->who->scope != 0;
    read.partition = first->partition;
    read.convs = names;
    read.n_convs = n;
    read.from = search->below;
    read.max = (uint32_t)search->limit + 1; /* one more: so there is a next */
    read.search = &search->what;
    if (!call_read(call, &read, on_hits))
        return false;
    search->asked += n;
    search->waiting++;
    return true;
}

/* Nothing was found as far down as all have looked: from there on. */
static bool goes_on(struct search *search)
{
    if (search->bound == 0 || (search->count > 0 && search->hits[0].mid >= search->bound) ||
        ++search->rounds == SEARCH_ROUNDS_MAX)
        return false;
    search->below = search->bound;
    search->bound = search->behind = 0;
    search->asked = search->count = search->text.n = 0;
    return true;
}

static void go_on(struct call *call)
{
    struct search *search = call->state;
    while (search->err == 0 && search->waiting < SEARCH_READS_MAX &&
           search->asked < search->sought_count)
        if (!ask_batch(call))
            search->err = ERR_BUSY;
    if (search->waiting > 0)
        return;
    if (search->err != 0) {
        fail(call, search->err, NULL);
        return;
    }
    if (search->count > 0)
        qsort(search->hits, search->count, sizeof *search->hits, newest_first);
    if (goes_on(search))
        go_on(call);
    else
        answer(call);
}

/* ---- which conversations ---- */

static void add_sought(struct call *call, struct span conv)
{
    struct search *search = call->state;
    if (search->sought_count == search->sought_cap) {
        search->sought_cap = search->sought_cap == 0 ? 64 : search->sought_cap * 2;
        search->sought = xrealloc(search->sought, search->sought_cap * sizeof *search->sought);
    }
    struct sought *sought = &search->sought[search->sought_count++];
    *sought = (struct sought){
        .partition = partition_of(conv_id_of(conv), call->conn->gate->cluster.partitions)};
    memcpy(sought->conv, conv.p, conv.n);
}

static int by_partition(const void *a, const void *b)
{
    const struct sought *x = a, *y = b;
    return x->partition < y->partition ? -1 : x->partition > y->partition;
}

static bool ask_ids(struct call *call);

static void on_ids(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    struct search *search = call->state;
    if (reply->err != 0) {
        fail(call, 0, reply);
        return;
    }
    for (size_t i = 0; i < reply->n_ids; i++)
        if (strlen(reply->ids[i]) <= CONV_ID_MAX)
            add_sought(call, span_str(reply->ids[i]));
    snprintf(search->after, sizeof search->after, "%s", reply->after);
    if (conn_gone(call->conn) || search->sought_count > PROTO_USER_CONVS_MAX) {
        fail(call, conn_gone(call->conn) ? ERR_CLOSED : ERR_TOO_LARGE, NULL);
    } else if (search->after[0] != 0) {
        if (!ask_ids(call))
            fail(call, ERR_BUSY, NULL);
    } else {
        if (search->sought_count > 0)
            qsort(search->sought, search->sought_count, sizeof *search->sought, by_partition);
        go_on(call);
    }
}

static bool ask_ids(struct call *call)
{
    struct search *search = call->state;
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_USER;
    read.user = call->conn->who->user;
    read.partition =
        partition_of(user_log_id(span_str(read.user)), call->conn->gate->cluster.partitions);
    read.after = search->after;
    read.max = PROTO_PAGE_MAX;
    return call_read(call, &read, on_ids);
}

/* ---- the request ---- */

static char *heap_copy(struct span text)
{
    char *copy = xmalloc(text.n + 1);
    if (text.n > 0)
        memcpy(copy, text.p, text.n);
    copy[text.n] = 0;
    return copy;
}

static int take_text(struct request *request, struct span *q)
{
    const struct json_val *val = json_get(request->obj, "q");
    *q = (struct span){0};
    if (val == NULL || val->type == JSON_NULL)
        return 0;
    if (val->type != JSON_STRING || memchr(val->str.p, 0, val->str.n) != NULL ||
        !utf8_valid(val->str))
        return field_error(request, ERR_BAD_REQUEST, "q", "must be a text");
    if (val->str.n > SEARCH_TEXT_MAX) {
        snprintf(request->why, sizeof request->why, "q may have %d bytes at most", SEARCH_TEXT_MAX);
        return ERR_TOO_LARGE;
    }
    *q = val->str;
    return 0;
}

static int take_kind(struct request *request, struct search *search)
{
    struct span name = {0}, xkind = {0};
    int err = field_text(request, "kind", 64, &name);
    if (err != 0 || name.n == 0)
        return err;
    search->what.kind = kind_of(name, &xkind);
    search->xkind = heap_copy(xkind);
    search->what.xkind = search->xkind;
    return kind_is_message(search->what.kind)
               ? 0
               : field_error(request, ERR_BAD_REQUEST, "kind", "must be text, image, file or x-…");
}

static int take_has(struct request *request, struct search *search)
{
    struct span has = {0};
    int err = field_text(request, "has", 16, &has);
    if (err != 0 || has.n == 0)
        return err;
    search->has = heap_copy(has);
    search->what.has = search->has;
    return span_is(has, "file") || span_is(has, "image") || span_is(has, "link")
               ? 0
               : field_error(request, ERR_BAD_REQUEST, "has", "must be file, image or link");
}

static int take_page(struct request *request, struct search *search)
{
    struct span page = {0};
    int err = field_text(request, "page", 20, &page);
    if (err != 0 || page.n == 0)
        return err;
    char digits[21] = "", *end = NULL;
    memcpy(digits, page.p, page.n);
    search->below = strtoull(digits, &end, 10);
    return *end == 0 && search->below > 0
               ? 0
               : field_error(request, ERR_BAD_REQUEST, "page", "must be the next of a page before");
}

static int take_search(struct request *request, struct search *search, struct span *c)
{
    struct span q, from_user = {0};
    int err = take_text(request, &q);
    if (err == 0)
        err = field_text(request, "c", CONV_ID_MAX, c);
    if (err == 0)
        err = field_user(request, "from_user", false, &from_user);
    if (err == 0)
        err = field_whole(request, "after", 0, PROTO_WHOLE_MAX, &search->what.after);
    if (err == 0)
        err = field_whole(request, "before", 1, PROTO_WHOLE_MAX, &search->what.before);
    if (err == 0)
        err = field_whole(request, "limit", 1, SEARCH_LIMIT_MAX, &search->limit);
    if (err == 0)
        err = take_kind(request, search);
    if (err == 0)
        err = take_has(request, search);
    if (err == 0)
        err = take_page(request, search);
    if (err != 0)
        return err;
    search->q = heap_copy(q);
    search->from_user = heap_copy(from_user);
    search->what.q = search->q;
    search->what.from_user = search->from_user;
    const Loquat__Search *what = &search->what;
    if (strspn(search->q, " \t\r\n") == q.n && from_user.n == 0 && what->kind == 0 &&
        search->has == NULL && what->after == 0 && what->before == 0)
        return field_error(request, ERR_BAD_REQUEST, "q", "is missing: what is looked for");
    return 0;
}

int op_search(struct request *request)
{
    struct call *call = request->call;
    struct search *search = xcalloc(1, sizeof *search);
    struct span c = {0};
    search->what = (Loquat__Search)LOQUAT__SEARCH__INIT;
    search->limit = SEARCH_LIMIT_DEFAULT;
    int err = take_search(request, search, &c);
    call->state = search;
    if (err == 0 && c.n > 0) {
        add_sought(call, c);
        go_on(call); /* answers */
        return 0;
    }
    if (err == 0 && !ask_ids(call))
        err = ERR_BUSY;
    if (err != 0)
        search_free(search);
    return err;
}
