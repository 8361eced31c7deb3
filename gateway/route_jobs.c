/* gateway/route_jobs.c: paths of backend jobs: /v1/partitions…, /v1/consumers…. What a path names
 * becomes fields of the request, beside those of its body or query. */
#include <stdio.h>

#include "gateway/httpd.h"
#include "gateway/jobs.h"
#include "gateway/query.h"
#include "gateway/route.h"
#include "store/base/err.h"
#include "store/base/http.h"

enum { PARTS_MAX = 4 };

struct job_route {
    const char *method, *path, *op; /* path: names of fields in braces */
};
static const struct job_route ROUTES[] = {
    {"GET", "partitions", "partitions"},
    {"GET", "partitions/{p}/feed", "feed"},
    {"GET", "consumers", "consumers"},
    {"GET", "consumers/{name}", "consumer"},
    {"PUT", "consumers/{name}", "consumer_put"},
    {"DELETE", "consumers/{name}", "consumer_drop"},
    {"PUT", "consumers/{name}/{p}", "cursor"},
    {"PUT", "consumers/{name}/workers/{worker}", "worker"},
    {"DELETE", "consumers/{name}/workers/{worker}", "worker_drop"},
};
enum { ROUTE_COUNT = sizeof ROUTES / sizeof *ROUTES };

/* Takes the next part off a path. */
static struct span next_part(struct span *path)
{
    const char *slash = memchr(path->p, '/', path->n);
    size_t n = slash != NULL ? (size_t)(slash - path->p) : path->n;
    struct span part = span_of(path->p, n);
    *path = slash != NULL ? span_of(slash + 1, path->n - n - 1) : span_of(path->p + n, 0);
    return part;
}

/* Whether the path has that shape; `parts` are those in braces, as they stand. */
static bool matches(const char *shape, struct span path, struct span parts[PARTS_MAX])
{
    struct span wanted = span_str(shape);
    size_t count = 0;
    while (wanted.n > 0 && path.n > 0) {
        struct span want = next_part(&wanted), part = next_part(&path);
        if (want.p[0] == '{' && part.n > 0)
            parts[count++] = part;
        else if (!span_eq(want, part))
            return false;
    }
    return wanted.n == 0 && path.n == 0;
}

/* The fields that the shape names. False: a part is malformed. */
static bool add_parts(struct conn *conn, const char *shape, const struct span *parts,
                      struct json_obj *obj)
{
    struct arena *arena = &conn->gate->arena;
    struct span wanted = span_str(shape);
    struct buf text = {0};
    bool fine = true;
    while (wanted.n > 0 && fine) {
        struct span want = next_part(&wanted);
        if (want.p[0] != '{')
            continue;
        struct json_val val = {.type = JSON_STRING};
        uint64_t whole = 0;
        const char *name = arena_copy(arena, want.p + 1, want.n - 2);
        fine = http_percent_decode(*parts++, &text);
        if (span_is(want, "{p}") && query_whole(buf_span(&text), &whole))
            val = (struct json_val){.type = JSON_NUMBER, .is_whole = true, .whole = (int64_t)whole};
        else
            val.str = span_of(arena_copy(arena, text.p != NULL ? text.p : "", text.n), text.n);
        query_add(obj, name, val);
    }
    buf_close(&text);
    return fine;
}

static void run(struct conn *conn, const struct http_msg *msg, const struct job_route *route,
                const struct span *parts)
{
    struct json *json = conn->gate->json;
    struct json_obj obj = {0};
    bool body = route_method_is(msg, "PUT") && msg->body.n > 0;
    const char *op = route->op;
    int err = body ? json_parse(json, msg->body.p, msg->body.n, &obj) : 0;
    if (err != 0) {
        httpd_fail(conn, err, json_error(json));
        return;
    }
    if (!body)
        query_fields(conn, msg, &obj);
    if (obj.count + PARTS_MAX > JSON_FIELDS_MAX) {
        httpd_fail(conn, ERR_TOO_LARGE, "too many fields");
        return;
    }
    if (!add_parts(conn, route->path, parts, &obj)) {
        httpd_fail(conn, ERR_NOT_FOUND, "no such path");
        return;
    }
    if (span_is(span_str(op), "feed") && route_wants(msg, "application/x-ndjson"))
        op = "feed_lines";
    proto_http(conn, proto_find(span_str(op)), (struct span){0}, &obj);
}

bool jobs_route(struct conn *conn, const struct http_msg *msg)
{
    static const char BASE[] = "/v1/";
    struct span path = msg->path, parts[PARTS_MAX] = {{0}};
    char allow[32] = "";
    if (path.n < sizeof BASE || memcmp(path.p, BASE, sizeof BASE - 1) != 0)
        return false;
    path = span_of(path.p + sizeof BASE - 1, path.n - sizeof BASE + 1);
    for (size_t i = 0; i < ROUTE_COUNT; i++) {
        const struct job_route *route = &ROUTES[i];
        if (!matches(route->path, path, parts))
            continue;
        bool head = route_method_is(msg, "HEAD") && strcmp(route->method, "GET") == 0;
        if (head || route_method_is(msg, route->method)) {
            if (route_identify(conn, msg))
                run(conn, msg, route, parts);
            return true;
        }
        size_t n = strlen(allow);
        snprintf(allow + n, sizeof allow - n, "%s%s", n > 0 ? ", " : "", route->method);
    }
    if (allow[0] != 0)
        route_not_allowed(conn, allow);
    return allow[0] != 0;
}
