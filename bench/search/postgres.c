#include <glob.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/lib/server.h"
#include "bench/search/rival.h"

enum { ARGS_MAX = 48, COPY_BYTES = 1 << 20, START_TRIES_MAX = 600, START_STEP_US = 100000 };
enum statement { WORDS, PHRASE, PREFIX, CHARS, FROM, KINDS };

/* $1 is the conversation, or an array of those that are the user's. */
static const char *const WHERE[KINDS] = {
    [WORDS] = "words @@ plainto_tsquery('simple', $2)",
    [PHRASE] = "words @@ phraseto_tsquery('simple', $2)",
    [PREFIX] = "words @@ to_tsquery('simple', $2)",
    [CHARS] = "text LIKE $2",
    [FROM] = "words @@ plainto_tsquery('simple', $2) AND author = $3",
};

struct postgres {
    pid_t pid;
    PGconn *conn;
    char root[SCRATCH_MAX], bin[SCRATCH_MAX];
    struct buf mine; /* as an array */
};

/* ---- the server ---- */

/* The newest one of Debian's. */
static void find_bin(struct postgres *postgres)
{
    glob_t found;
    if (glob("/usr/lib/postgresql/*/bin", 0, NULL, &found) != 0)
        bench_fail("search: needs the package postgresql");
    snprintf(postgres->bin, sizeof postgres->bin, "%s", found.gl_pathv[found.gl_pathc - 1]);
    globfree(&found);
}

/* It refuses root: then it runs as the user that its package has made, and owns its directory. */
static size_t begin_args(const struct postgres *postgres, const char *argv[ARGS_MAX],
                         const char *name, char program[2 * SCRATCH_MAX])
{
    size_t n = 0;
    snprintf(program, 2 * (size_t)SCRATCH_MAX, "%s/%s", postgres->bin, name);
    if (geteuid() == 0) {
        const struct passwd *user = getpwnam("postgres");
        if (user == NULL || chown(postgres->root, user->pw_uid, user->pw_gid) != 0)
            bench_fail("search: no user postgres, to whom %s may belong", postgres->root);
        argv[n++] = "setpriv";
        argv[n++] = "--reuid=postgres";
        argv[n++] = "--regid=postgres";
        argv[n++] = "--clear-groups";
        argv[n++] = "--pdeathsig=QUIT";
    }
    argv[n++] = program;
    return n;
}

static void start(struct postgres *postgres)
{
    const char *argv[ARGS_MAX];
    char program[2 * SCRATCH_MAX], data[SCRATCH_MAX + 16], log[SCRATCH_MAX + 16];
    snprintf(data, sizeof data, "%s/data", postgres->root);
    snprintf(log, sizeof log, "%s.postgres.log", postgres->root);
    size_t n = begin_args(postgres, argv, "initdb", program);
    const char *const init[] = {
        "-D", data, "-U", "bench", "-A", "trust", "-N", "-E", "UTF8", "--locale=C.UTF-8", NULL};
    memcpy(argv + n, init, sizeof init);
    proc_wait(proc_start((char *const *)(uintptr_t)argv, log));
    n = begin_args(postgres, argv, "postgres", program);
    const char *const run[] = {"-D", data,
                               "-k", postgres->root,
                               "-c", "listen_addresses=",
                               "-c", "fsync=off",
                               "-c", "full_page_writes=off",
                               "-c", "shared_buffers=2GB",
                               "-c", "effective_cache_size=8GB",
                               "-c", "work_mem=256MB",
                               "-c", "maintenance_work_mem=1GB",
                               "-c", "max_wal_size=8GB",
                               "-c", "random_page_cost=1.1", /* all is in memory */
                               "-c", "jit=off",
                               "-c", "autovacuum=off",
                               "-c", "plan_cache_mode=force_custom_plan",
                               NULL};
    memcpy(argv + n, run, sizeof run);
    postgres->pid = proc_start((char *const *)(uintptr_t)argv, log);
    char where[SCRATCH_MAX + 64];
    snprintf(where, sizeof where, "host=%s dbname=postgres user=bench", postgres->root);
    for (int i = 0; i < START_TRIES_MAX; i++) {
        postgres->conn = PQconnectdb(where);
        if (PQstatus(postgres->conn) == CONNECTION_OK) {
            unlink(log);
            return;
        }
        PQfinish(postgres->conn);
        usleep(START_STEP_US);
    }
    bench_fail("postgres does not start: see %s", log);
}

static void run(struct postgres *postgres, const char *sql)
{
    PGresult *result = PQexec(postgres->conn, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_COPY_IN)
        bench_fail("postgres: %s: %s", sql, PQerrorMessage(postgres->conn));
    PQclear(result);
}

static uint64_t number(struct postgres *postgres, const char *sql)
{
    PGresult *result = PQexec(postgres->conn, sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        bench_fail("postgres: %s: %s", sql, PQerrorMessage(postgres->conn));
    uint64_t value = strtoull(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    return value;
}

/* ---- what is in it ---- */

static void add_field(struct buf *rows, struct span text)
{
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c == '\\' || c == '\t' || c == '\n' || c == '\r') {
            buf_add_byte(rows, '\\');
            c = (char)(c == '\t' ? 't' : c == '\n' ? 'n' : c == '\r' ? 'r' : c);
        }
        if (c != '\0') /* it has no such character */
            buf_add_byte(rows, (uint8_t)c);
    }
}

static void put(struct postgres *postgres, struct buf *rows)
{
    if (PQputCopyData(postgres->conn, rows->p, (int)rows->n) != 1)
        bench_fail("postgres: %s", PQerrorMessage(postgres->conn));
    rows->n = 0;
}

static void fill(struct postgres *postgres, const struct texts *texts, const size_t *order)
{
    struct buf rows = {0};
    run(postgres, "COPY msg (id, conv, author, ts, text) FROM STDIN");
    for (size_t i = 0; i < texts->count; i++) {
        const struct said *said = &texts->all[order[i]];
        buf_addf(&rows, "%zu\t%u\t", i + 1, said->conv);
        add_field(&rows, said->from);
        buf_addf(&rows, "\t%llu\t", (unsigned long long)said->ts);
        add_field(&rows, said->text);
        buf_add_byte(&rows, '\n');
        if (rows.n > COPY_BYTES)
            put(postgres, &rows);
    }
    put(postgres, &rows);
    buf_close(&rows);
    if (PQputCopyEnd(postgres->conn, NULL) != 1)
        bench_fail("postgres: %s", PQerrorMessage(postgres->conn));
    for (PGresult *result; (result = PQgetResult(postgres->conn)) != NULL;) {
        if (PQresultStatus(result) != PGRES_COMMAND_OK)
            bench_fail("postgres: %s", PQerrorMessage(postgres->conn));
        PQclear(result);
    }
}

static void prepare(struct postgres *postgres)
{
    for (int kind = 0; kind < KINDS; kind++) {
        for (int mine = 0; mine <= 1; mine++) {
            char name[16], sql[512];
            snprintf(name, sizeof name, "%d-%d", kind, mine);
            snprintf(sql, sizeof sql,
                     "SELECT id, author, ts, text FROM msg WHERE conv = %s AND %s "
                     "ORDER BY id DESC LIMIT %d",
                     mine ? "ANY($1::int[])" : "$1::int", WHERE[kind], HITS);
            PGresult *result = PQprepare(postgres->conn, name, sql, 0, NULL);
            if (PQresultStatus(result) != PGRES_COMMAND_OK)
                bench_fail("postgres: %s: %s", sql, PQerrorMessage(postgres->conn));
            PQclear(result);
        }
    }
}

/* ---- asking ---- */

static const char QUERY_CANCELED[] = "57014"; /* Appendix A of its manual */

static size_t find(struct rival *rival, const struct query_drawn *query, bool mine,
                   struct buf *rows)
{
    static const enum statement OF[ASKED_COUNT] = {
        [ASKED_RARE] = WORDS,    [ASKED_COMMON] = WORDS,  [ASKED_TWO] = WORDS,
        [ASKED_PHRASE] = PHRASE, [ASKED_PREFIX] = PREFIX, [ASKED_CHARS] = CHARS,
        [ASKED_FROM] = FROM};
    struct postgres *postgres = rival->state;
    enum statement kind = OF[query->kind];
    struct buf text = {0};
    char name[16], conv[16];
    snprintf(name, sizeof name, "%d-%d", (int)kind, (int)mine);
    snprintf(conv, sizeof conv, "%u", query->conv);
    buf_add_str(&text, kind == CHARS ? "%" : "");
    for (size_t i = 0; i < query->count; i++)
        buf_addf(&text, "%s%s", i > 0 ? " " : "", query->words[i]);
    buf_add_str(&text, kind == CHARS ? "%" : kind == PREFIX ? ":*" : "");
    buf_add_byte(&text, '\0');
    const char *values[] = {mine ? postgres->mine.p : conv, text.p, query->from};
    (void)rows; /* the client has them */
    PGresult *result =
        PQexecPrepared(postgres->conn, name, kind == FROM ? 3 : 2, values, NULL, NULL, 0);
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    bool cut = state != NULL && strcmp(state, QUERY_CANCELED) == 0;
    if (!cut && PQresultStatus(result) != PGRES_TUPLES_OK)
        bench_fail("postgres: %s: %s", text.p, PQerrorMessage(postgres->conn));
    rival->cut += cut;
    size_t hits = cut ? 0 : (size_t)PQntuples(result);
    PQclear(result);
    buf_close(&text);
    return hits;
}

static void close_postgres(struct rival *rival)
{
    struct postgres *postgres = rival->state;
    PQfinish(postgres->conn);
    proc_stop(postgres->pid);
    bench_dir_drop(postgres->root);
    buf_close(&postgres->mine);
    free(postgres);
}

void rival_postgres(struct rival *rival, const struct texts *texts, const size_t *order)
{
    struct postgres *postgres = xcalloc(1, sizeof *postgres);
    *rival = (struct rival){
        .name = "PostgreSQL GIN", .state = postgres, .find = find, .close = close_postgres};
    find_bin(postgres);
    bench_dir(postgres->root);
    start(postgres);
    run(postgres, "CREATE EXTENSION pg_trgm; CREATE EXTENSION btree_gin;"
                  "CREATE TABLE msg (id bigint, conv int, author text, ts bigint, text text, "
                  "words tsvector GENERATED ALWAYS AS (to_tsvector('simple', text)) STORED)");
    fill(postgres, texts, order);
    double begin = now_s();
    run(postgres, "CREATE INDEX words ON msg USING gin (conv, words) WITH (fastupdate = off)");
    run(postgres, "CREATE INDEX chars ON msg USING gin (conv, text gin_trgm_ops) "
                  "WITH (fastupdate = off)");
    rival->fill_s = now_s() - begin;
    rival->index_bytes =
        number(postgres, "SELECT pg_relation_size('words') + pg_relation_size('chars')");
    run(postgres, "ALTER TABLE msg ADD PRIMARY KEY (id); CREATE INDEX by_conv ON msg (conv, id)");
    run(postgres, "VACUUM ANALYZE msg");
    prepare(postgres);
    run(postgres, "SET statement_timeout = '2s'");
    for (uint32_t i = 0; i < texts->room_count; i++)
        if (texts->rooms[i].mine)
            buf_addf(&postgres->mine, "%s%u", postgres->mine.n > 0 ? "," : "{", i);
    buf_add_str(&postgres->mine, "}");
    buf_add_byte(&postgres->mine, '\0');
}
