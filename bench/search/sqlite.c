#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/server.h"
#include "bench/search/rival.h"

enum { TRIGRAM = 3, CACHE_KIB = 2000000 };
enum statement { WORDS_ONE, WORDS_MINE, CHARS_ONE, CHARS_MINE, SHORT_ONE, SHORT_MINE, STATEMENTS };

/* ?1 what is looked for, ?2 the conversation. In the words' index the conversation of ONE is a word
 * of ?1. */
static const char *const SQL[STATEMENTS] = {
    [WORDS_ONE] = "SELECT m.id, m.author, m.ts, m.text FROM words w JOIN msg m ON m.id = w.rowid "
                  "WHERE words MATCH ?1 ORDER BY w.rowid DESC LIMIT 20",
    [WORDS_MINE] = "SELECT m.id, m.author, m.ts, m.text FROM words w JOIN msg m ON m.id = w.rowid "
                   "WHERE words MATCH ?1 AND m.conv IN (SELECT conv FROM mine) "
                   "ORDER BY w.rowid DESC LIMIT 20",
    [CHARS_ONE] = "SELECT m.id, m.author, m.ts, m.text FROM chars c JOIN msg m ON m.id = c.rowid "
                  "WHERE chars MATCH ?1 AND m.conv = ?2 ORDER BY c.rowid DESC LIMIT 20",
    [CHARS_MINE] = "SELECT m.id, m.author, m.ts, m.text FROM chars c JOIN msg m ON m.id = c.rowid "
                   "WHERE chars MATCH ?1 AND m.conv IN (SELECT conv FROM mine) "
                   "ORDER BY c.rowid DESC LIMIT 20",
    [SHORT_ONE] = "SELECT id, author, ts, text FROM msg WHERE conv = ?2 AND instr(text, ?1) > 0 "
                  "ORDER BY id DESC LIMIT 20",
    [SHORT_MINE] = "SELECT id, author, ts, text FROM msg WHERE conv IN (SELECT conv FROM mine) "
                   "AND instr(text, ?1) > 0 ORDER BY id DESC LIMIT 20",
};

struct lite {
    sqlite3 *db;
    sqlite3_stmt *find[STATEMENTS];
};

static void must(struct lite *lite, int err)
{
    if (err != SQLITE_OK)
        bench_fail("sqlite: %s", sqlite3_errmsg(lite->db));
}

static void run(struct lite *lite, const char *sql)
{
    must(lite, sqlite3_exec(lite->db, sql, NULL, NULL, NULL));
}

static uint64_t number(struct lite *lite, const char *sql)
{
    sqlite3_stmt *stmt;
    must(lite, sqlite3_prepare_v2(lite->db, sql, -1, &stmt, NULL));
    if (sqlite3_step(stmt) != SQLITE_ROW)
        bench_fail("sqlite: %s: nothing", sql);
    uint64_t value = (uint64_t)sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return value;
}

static uint64_t pages_bytes(struct lite *lite)
{
    return number(lite, "PRAGMA page_count") * number(lite, "PRAGMA page_size");
}

static void conv_name(char name[16], uint32_t conv)
{
    snprintf(name, 16, "c%u", conv);
}

static void fill(struct lite *lite, const struct texts *texts, const size_t *order)
{
    sqlite3_stmt *put;
    must(lite,
         sqlite3_prepare_v2(lite->db, "INSERT INTO msg VALUES (?, ?, ?, ?, ?)", -1, &put, NULL));
    for (size_t i = 0; i < texts->count; i++) {
        const struct said *said = &texts->all[order[i]];
        char conv[16];
        conv_name(conv, said->conv);
        sqlite3_bind_int64(put, 1, (sqlite3_int64)i + 1);
        sqlite3_bind_text(put, 2, conv, -1, SQLITE_TRANSIENT);
        sqlite3_bind_text(put, 3, said->from.p, (int)said->from.n, SQLITE_STATIC);
        sqlite3_bind_int64(put, 4, (sqlite3_int64)said->ts);
        sqlite3_bind_text(put, 5, said->text.p, (int)said->text.n, SQLITE_STATIC);
        if (sqlite3_step(put) != SQLITE_DONE)
            bench_fail("sqlite: %s", sqlite3_errmsg(lite->db));
        sqlite3_reset(put);
    }
    sqlite3_finalize(put);
    must(lite, sqlite3_prepare_v2(lite->db, "INSERT INTO mine VALUES (?)", -1, &put, NULL));
    for (uint32_t i = 0; i < texts->room_count; i++) {
        char conv[16];
        conv_name(conv, i);
        sqlite3_bind_text(put, 1, conv, -1, SQLITE_TRANSIENT);
        if (texts->rooms[i].mine && sqlite3_step(put) != SQLITE_DONE)
            bench_fail("sqlite: %s", sqlite3_errmsg(lite->db));
        sqlite3_reset(put);
    }
    sqlite3_finalize(put);
}

/* As FTS5 has it: each word in quotes, the last one of a prefix with a star. */
static void say(const struct query_drawn *query, bool mine, struct buf *text)
{
    bool chars = query->kind == ASKED_CHARS;
    text->n = 0;
    if (!mine && !chars)
        buf_addf(text, "conv:c%u AND ", query->conv);
    if (query->from[0] != '\0')
        buf_addf(text, "author:\"%s\" AND ", query->from);
    buf_add_str(text, chars ? "" : "text:(");
    for (size_t i = 0; i < query->count; i++)
        buf_addf(text, "%s\"%s\"%s",
                 i > 0 && query->kind == ASKED_PHRASE ? " + "
                 : i > 0                              ? " AND "
                                                      : "",
                 query->words[i], query->kind == ASKED_PREFIX ? "*" : "");
    buf_add_str(text, chars ? "" : ")");
}

static size_t characters(const char *text)
{
    size_t n = 0;
    for (; *text != '\0'; text++)
        n += ((uint8_t)*text & 0xc0) != 0x80;
    return n;
}

static size_t find(struct rival *rival, const struct query_drawn *query, bool mine,
                   struct buf *rows)
{
    struct lite *lite = rival->state;
    struct buf text = {0};
    char conv[16];
    size_t hits = 0;
    bool is_short = query->kind == ASKED_CHARS && characters(query->words[0]) < TRIGRAM;
    sqlite3_stmt *stmt = lite->find[(is_short                     ? SHORT_ONE
                                     : query->kind == ASKED_CHARS ? CHARS_ONE
                                                                  : WORDS_ONE) +
                                    mine];
    say(query, mine, &text);
    if (is_short)
        sqlite3_bind_text(stmt, 1, query->words[0], -1, SQLITE_STATIC);
    else
        sqlite3_bind_text(stmt, 1, text.p, (int)text.n, SQLITE_STATIC);
    conv_name(conv, query->conv);
    if (sqlite3_bind_parameter_count(stmt) > 1)
        sqlite3_bind_text(stmt, 2, conv, -1, SQLITE_STATIC);
    int got;
    for (; (got = sqlite3_step(stmt)) == SQLITE_ROW; hits++)
        for (int column = 0; column < 4; column++)
            buf_add(rows, (const char *)sqlite3_column_text(stmt, column),
                    (size_t)sqlite3_column_bytes(stmt, column));
    if (got != SQLITE_DONE)
        bench_fail("sqlite: %.*s: %s", (int)text.n, text.p, sqlite3_errmsg(lite->db));
    sqlite3_reset(stmt);
    buf_close(&text);
    return hits;
}

static void close_lite(struct rival *rival)
{
    struct lite *lite = rival->state;
    for (size_t i = 0; i < STATEMENTS; i++)
        sqlite3_finalize(lite->find[i]);
    sqlite3_close(lite->db);
    free(lite);
}

void rival_sqlite(struct rival *rival, const struct texts *texts, const size_t *order)
{
    struct lite *lite = xcalloc(1, sizeof *lite);
    char path[SCRATCH_MAX + 16], cache[64];
    rival->name = "SQLite FTS5";
    rival->state = lite;
    rival->find = find;
    rival->close = close_lite;
    snprintf(path, sizeof path, "%s/texts.db", rival->root);
    must(lite, sqlite3_open(path, &lite->db));
    snprintf(cache, sizeof cache, "PRAGMA cache_size = -%d", CACHE_KIB);
    run(lite, cache);
    run(lite,
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN;"
        "CREATE TABLE msg (id INTEGER PRIMARY KEY, conv TEXT, author TEXT, ts INT, text TEXT);"
        "CREATE TABLE mine (conv TEXT PRIMARY KEY) WITHOUT ROWID;");
    fill(lite, texts, order);
    run(lite, "CREATE INDEX by_conv ON msg (conv, id); COMMIT");
    uint64_t before = pages_bytes(lite);
    double begin = now_s();
    run(lite, "CREATE VIRTUAL TABLE words USING fts5(conv, author, text, content=msg, "
              "content_rowid=id, tokenize='unicode61', prefix='2 3');"
              "CREATE VIRTUAL TABLE chars USING fts5(text, content=msg, content_rowid=id, "
              "tokenize='trigram', detail=full);"
              "BEGIN; INSERT INTO words (words) VALUES ('rebuild');"
              "INSERT INTO chars (chars) VALUES ('rebuild'); COMMIT; BEGIN;"
              "INSERT INTO words (words) VALUES ('optimize');"
              "INSERT INTO chars (chars) VALUES ('optimize'); COMMIT");
    rival->fill_s = now_s() - begin;
    rival->index_bytes = pages_bytes(lite) - before;
    run(lite, "ANALYZE");
    for (size_t i = 0; i < STATEMENTS; i++)
        must(lite, sqlite3_prepare_v3(lite->db, SQL[i], -1, SQLITE_PREPARE_PERSISTENT,
                                      &lite->find[i], NULL));
}
