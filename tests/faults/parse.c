/* parse: the parsers and packers with no memory, each allocation in turn, of ours and of the
 * libraries under them. Run under tests/faults/shim.c. Each turn is a child: it ends with what it
 * is to find when nothing fails (a forged token is refused, every line of an archive is there), or
 * says so and ends with 1. Never by a signal, never with another result. Prints what went wrong;
 * the last line is `N passed, N failed`. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/base/arena.h"
#include "store/base/check.h"
#include "store/base/config.h"
#include "store/base/err.h"
#include "store/base/http.h"
#include "store/base/json.h"
#include "store/base/memory.h"
#include "store/base/record.h"
#include "store/base/ws.h"
#include "store/base/ws_deflate.h"
#include "store/client/import_line.h"
#include "store/client/sink.h"
#include "store/client/source.h"
#include "tests/faults/shim.h"
#include "tests/lib/scratch.h"
#include "tests/lib/tokens.h"

enum { RIGHT = 0, SAID = 1, REFUSED = 3, WRONG = 4, TURNS_MAX = 100000, LINES = 400 };

static char dir[SCRATCH_MAX], archive[SCRATCH_MAX + 32], copy[SCRATCH_MAX + 32];
static unsigned long *reached; /* shared with children */
static unsigned passed, failed;

/* ---- what is parsed: RIGHT, REFUSED with a reason, or WRONG ---- */

static int turn_json(void)
{
    static const char TEXT[] =
        "{\"op\":\"send\",\"body\":{\"text\":\"a\\u00e9\\n\"},\"list\":[1,2,3]}";
    struct json *json = json_new(1 << 20);
    struct json_obj obj, body;
    struct json_val vals[4];
    if (json_parse(json, TEXT, sizeof TEXT - 1, &obj) != 0)
        return WRONG; /* it is JSON */
    const struct json_val *inner = json_get(&obj, "body"), *list = json_get(&obj, "list");
    bool fine = inner != NULL && json_open(json, inner, &body) == 0 && body.count == 1 &&
                list != NULL && json_items(json, list, vals, 4) == 3;
    json_free(json);
    return fine ? RIGHT : WRONG;
}

static int turn_http(void)
{
    static const char TEXT[] = "POST /v1/x?max=3 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
                               "X-A: b\r\n\r\nbody";
    struct http *http = http_new(true, 65536, false);
    struct http_msg msg;
    struct buf max = {0};
    int got = http_feed(http, TEXT, 40, &msg);
    if (got == 0)
        got = http_feed(http, TEXT + 40, sizeof TEXT - 1 - 40, &msg);
    bool fine = got == 1 && span_is(msg.body, "body") && http_query_get(msg.query, "max", &max) &&
                span_is(buf_span(&max), "3");
    buf_close(&max);
    http_free(http);
    return fine ? RIGHT : WRONG;
}

static int verify(bool good)
{
    struct jwt_claims claims;
    char why[256] = "";
    int err = jwt_verify(fix.keys, buf_span(&fix.token), NOW, &claims, why, sizeof why);
    if (err == 0)
        return good && strcmp(claims.user, "alice") == 0 ? RIGHT : WRONG;
    return why[0] == 0 ? WRONG : good ? REFUSED : RIGHT;
}

static int turn_token(void)
{
    return verify(true);
}

static int turn_forged(void)
{
    return verify(false);
}

static int turn_keys(void)
{
    char why[512] = "";
    struct jwt_keys *keys = jwt_keys_load_jwks(fix.path, why, sizeof why);
    if (keys == NULL)
        return why[0] != 0 ? REFUSED : WRONG;
    jwt_keys_free(fix.keys);
    fix.keys = keys;
    return verify(true) == RIGHT ? RIGHT : WRONG; /* a key that is missing is no key set */
}

static int turn_config(void)
{
    static const char YAML[] = "# server\nlisten: 127.0.0.1:9\npartitions: 4\n";
    char *listen = "x", why[512] = "";
    uint64_t partitions = 16;
    const struct config_option options[] = {
        {"listen", 'l', CONFIG_STRING, "HOST:PORT", "Where to serve", &listen, 1, 40},
        {"partitions", 'p', CONFIG_UINT, "N", "Partitions", &partitions, 1, 1024},
        {0},
    };
    if (config_read("x.yaml", span_str(YAML), options, why, sizeof why) != 0)
        return WRONG; /* it is right */
    return strcmp(listen, "127.0.0.1:9") == 0 && partitions == 4 ? RIGHT : WRONG;
}

static int turn_line(void)
{
    static const char LINE[] =
        "{\"conv\":\"c\",\"ts\":1700000000000,\"from\":\"a b\",\"text\":\"t\","
        "\"reply_to\":null,\"lang\":\"en\"}";
    struct json *json = json_new(1 << 20);
    struct import_line line;
    struct buf more = {0}, out = {0};
    const char *why = "";
    if (import_line_parse(json, span_str(LINE), 7, &line, &more, &why) != 0)
        return WRONG;
    import_line_encode(&line, 7, buf_span(&more), &out);
    bool fine = memmem(out.p, out.n, "\"lang\":\"en\"", 11) != NULL && line.ts == 1700000000000;
    buf_close(&more);
    buf_close(&out);
    json_free(json);
    return fine ? RIGHT : WRONG;
}

static int read_archive(const char *path)
{
    struct source *source = source_open(path);
    struct span line;
    int got, count = 0;
    if (source == NULL)
        return errno != 0 ? REFUSED : WRONG;
    while ((got = source_line(source, &line)) == 1)
        count++;
    bool said = source_why(source)[0] != 0;
    source_close(source);
    if (got < 0)
        return said ? REFUSED : WRONG;
    return count == LINES ? RIGHT : WRONG;
}

static int turn_unpack(void)
{
    return read_archive(archive);
}

/* Refused: then nothing stands under the name. */
static int write_archive(const char *path)
{
    struct sink *sink = sink_open(path);
    if (sink == NULL)
        return REFUSED;
    bool fine = true;
    for (int i = 0; i < LINES && fine; i++) {
        char line[64];
        int n = snprintf(line, sizeof line, "{\"line\":%d}\n", i);
        fine = sink_write(sink, span_of(line, (size_t)n));
    }
    if (sink_close(sink, fine) && fine)
        return RIGHT;
    return access(path, F_OK) != 0 && errno == ENOENT ? REFUSED : WRONG;
}

static int turn_pack(void)
{
    unlink(copy);
    int got = write_archive(copy);
    return got == RIGHT ? read_archive(copy) : got;
}

static int turn_record(void)
{
    Loquat__Record record = LOQUAT__RECORD__INIT, *back = NULL;
    struct buf bytes = {0};
    struct arena arena;
    arena_init(&arena);
    record.reply = 12;
    record.kind = LOQUAT__KIND__KIND_TEXT;
    record.from = "alice";
    record_encode(&record, &bytes);
    int err = record_decode(buf_span(&bytes), &arena.allocator, &back);
    bool fine = err == 0 && back->reply == 12 && strcmp(back->from, "alice") == 0;
    arena_close(&arena);
    buf_close(&bytes);
    return fine ? RIGHT : WRONG;
}

static int turn_deflate(void)
{
    struct ws_zip *zip = ws_zip_new();
    struct buf packed = {0}, back = {0};
    char text[2000];
    memset(text, 'a', sizeof text);
    bool fine = ws_zip_deflate(zip, span_of(text, sizeof text), &packed) &&
                ws_zip_inflate(zip, buf_span(&packed), sizeof text, &back) == 0 &&
                back.n == sizeof text && memcmp(back.p, text, sizeof text) == 0;
    buf_close(&packed);
    buf_close(&back);
    ws_zip_free(zip);
    return fine ? RIGHT : WRONG;
}

static void on_text(struct ws *ws, struct span text)
{
    (void)ws;
    *reached += span_is(text, "hello") ? 0 : TURNS_MAX;
}

static void on_output(struct ws *ws, struct span bytes)
{
    (void)ws;
    (void)bytes;
}

static void on_close(struct ws *ws, int code)
{
    (void)ws;
    (void)code;
}

static int turn_ws(void)
{
    static const struct ws_ops OPS = {
        .on_message = on_text, .on_output = on_output, .on_close = on_close};
    struct ws_pool *pool = ws_pool_new(65536, true);
    struct buf frame = {0};
    struct ws ws;
    char accept[WS_ACCEPT_SIZE + 1];
    ws_init(&ws, pool, &OPS);
    ws_frame_masked(&frame, span_str("hello"));
    bool fine = ws_feed(&ws, frame.p, frame.n) == 0 &&
                ws_accept(span_str("dGhlIHNhbXBsZSBub25jZQ=="), accept) &&
                strcmp(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") == 0;
    ws_close(&ws);
    buf_close(&frame);
    ws_pool_free(pool);
    return fine ? RIGHT : WRONG;
}

/* ---- the turns ---- */

/* In a child: its status; what it says goes to `said`. */
static int child(int (*turn)(void), unsigned long at, const char *from, FILE *said)
{
    pid_t pid = fork();
    ASSERT(pid >= 0);
    if (pid == 0) {
        (void)dup2(fileno(said), STDERR_FILENO);
        if (from != NULL)
            fault_arm("alloc", at, 1, ENOMEM, from);
        int result = turn();
        *reached = from != NULL ? fault_calls() : 0;
        _exit(result);
    }
    int status = 0;
    ASSERT(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void take_turns(const char *name, int (*turn)(void), const char *from)
{
    for (unsigned long at = 1; at < TURNS_MAX; at++) {
        FILE *said = tmpfile();
        ASSERT(said != NULL);
        *reached = at; /* a child that ends on the way has met its fault */
        int status = child(turn, at, from, said);
        bool met = *reached >= at, spoke = lseek(fileno(said), 0, SEEK_END) > 0;
        bool fine =
            status == RIGHT || (met && status == REFUSED) || (met && status == SAID && spoke);
        *(fine ? &passed : &failed) += 1;
        if (!fine)
            printf("FAIL  %s: allocation %lu of %s: %s %d\n", name, at, from,
                   status < 0 ? "signal" : "status", status < 0 ? -status : status);
        if (fclose(said) != 0)
            perror("parse");
        if (!met)
            return;
    }
}

static void both(const char *name, int (*turn)(void))
{
    static const char LIBRARIES[] = "libzstd,libcjose,libjansson,libcyaml,libyaml,libsimdjson,"
                                    "libwslay,libprotobuf,libz";
    unsigned before = failed, runs = passed + failed;
    int status = child(turn, 0, NULL, stderr);
    if (status != RIGHT) {
        printf("FAIL  %s: status %d when nothing fails\n", name, status);
        failed++;
    }
    take_turns(name, turn, "main");
    take_turns(name, turn, LIBRARIES);
    printf("%s  %-16s %5u\n", failed == before ? "ok  " : "FAIL", name, passed + failed - runs);
    ASSERT(fflush(stdout) == 0);
}

static void tokens(void)
{
    static const char FORGED[] = "{\"sub\":\"alice\",\"exp\":1700000060,\"scope\":\"admin\"}";
    tokens_setup();
    keys_use_secret();
    token_make("{\"alg\":\"HS256\"}", CLAIMS);
    both("token HS256", turn_token);
    token_make_with(NULL, "another secret, just as long as it", 34, "{\"alg\":\"HS256\"}", FORGED);
    both("forged HS256", turn_forged);
    keys_use_all();
    struct {
        const char *name, *header;
        EVP_PKEY *key, *other;
    } kinds[] = {{"RS256", "{\"alg\":\"RS256\",\"kid\":\"r\"}", fix.rsa, NULL},
                 {"ES256", "{\"alg\":\"ES256\",\"kid\":\"e\"}", fix.ec, NULL},
                 {"EdDSA", "{\"alg\":\"EdDSA\",\"kid\":\"d\"}", fix.ed, NULL}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char name[32];
        token_make_with(kinds[i].key, NULL, 0, kinds[i].header, CLAIMS);
        snprintf(name, sizeof name, "token %s", kinds[i].name);
        both(name, turn_token);
        snprintf(name, sizeof name, "keys %s", kinds[i].name);
        both(name, turn_keys);
        /* One bit of the signature, well inside. */
        fix.token.p[fix.token.n - 20] = fix.token.p[fix.token.n - 20] == 'A' ? 'B' : 'A';
        snprintf(name, sizeof name, "forged %s", kinds[i].name);
        both(name, turn_forged);
    }
    tokens_teardown();
}

int main(void)
{
    if (fault_arm == NULL) {
        fprintf(stderr, "parse: LD_PRELOAD is to be the shim\n");
        return 2;
    }
    memory_must();
    check_explain_aborts("parse", true);
    scratch_make(dir);
    snprintf(archive, sizeof archive, "%s/a.jsonl.zst", dir);
    snprintf(copy, sizeof copy, "%s/b.jsonl.zst", dir);
    reached =
        mmap(NULL, sizeof *reached, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT(reached != MAP_FAILED);
    ASSERT(write_archive(archive) == RIGHT);
    both("JSON", turn_json);
    both("HTTP head", turn_http);
    both("settings", turn_config);
    both("import line", turn_line);
    both("archive, reading", turn_unpack);
    both("archive, writing", turn_pack);
    both("record", turn_record);
    both("deflate", turn_deflate);
    ASSERT(turn_ws() == RIGHT); /* how OpenSSL begins is not looked at thousands of times */
    both("WebSocket", turn_ws);
    tokens();
    scratch_remove(dir);
    printf("%u passed, %u failed\n", passed, failed);
    return failed == 0 ? 0 : 1;
}
