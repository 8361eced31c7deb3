#include "store/base/log.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int sink;
static char text[1 << 20];

/* Standard error goes to memory; a test is a process of its own. */
static void setup(void)
{
    sink = memfd_create("stderr", 0);
    cr_assert(ge(int, dup2(sink, STDERR_FILENO), 0));
    log_setup("loquat-test", LOG_DEBUG, LOG_JSON);
}

TestSuite(log, .init = setup);

/* A function, because cr_assert pastes what the macro becomes. */
static bool is_object(const json_t *json)
{
    return json_is_object(json);
}

static const char *written(void)
{
    ssize_t n = pread(sink, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

/* The one line there is, as an object; the caller frees it. */
static json_t *line(void)
{
    const char *all = written();
    cr_assert(eq(ptr, strchr(all, '\n'), (char *)all + strlen(all) - 1));
    json_t *json = json_loads(all, JSON_REJECT_DUPLICATES, NULL);
    cr_assert(is_object(json), "%s", all);
    return json;
}

static const char *member(const json_t *json, const char *name)
{
    const char *value = json_string_value(json_object_get(json, name));
    return value != NULL ? value : "(none)";
}

/* A line says when, how bad, who and what, and then what the caller adds. */
Test(log, line_is_one_json_object)
{
    log_info("listening", {"addr", log_str("127.0.0.1:8080")}, {"loops", log_int(2)});
    json_t *json = line();
    cr_assert(eq(str, (char *)member(json, "level"), (char *)"info"));
    cr_assert(eq(str, (char *)member(json, "program"), (char *)"loquat-test"));
    cr_assert(eq(str, (char *)member(json, "msg"), (char *)"listening"));
    cr_assert(eq(str, (char *)member(json, "addr"), (char *)"127.0.0.1:8080"));
    cr_assert(eq(i64, json_integer_value(json_object_get(json, "loops")), 2));
    json_decref(json);
}

/* Times are RFC 3339, in UTC, with milliseconds. */
Test(log, time_is_rfc_3339)
{
    log_warn("x");
    json_t *json = line();
    const char *ts = member(json, "ts"), *shape = "dddd-dd-ddTdd:dd:dd.dddZ";
    cr_assert(eq(sz, strlen(ts), strlen(shape)));
    for (size_t i = 0; shape[i] != '\0'; i++)
        cr_assert(shape[i] == 'd' ? ts[i] >= '0' && ts[i] <= '9' : ts[i] == shape[i], "%s", ts);
    json_decref(json);
}

/* The smallest and the largest number keep their value. */
Test(log, numbers_are_exact)
{
    log_info("x", {"min", log_int(INT64_MIN)}, {"max", log_int(INT64_MAX)});
    json_t *json = line();
    cr_assert(eq(i64, json_integer_value(json_object_get(json, "min")), INT64_MIN));
    cr_assert(eq(i64, json_integer_value(json_object_get(json, "max")), INT64_MAX));
    json_decref(json);
}

/* A value can't end the line, leave its string or move a terminal's cursor. */
Test(log, values_are_escaped)
{
    char value[] = "a\"b\\c\n{\"x\":1}\033[2J\x7f\t";
    log_error("x", {"v", log_str(value)});
    cr_assert(eq(ptr, strchr(written(), '\033'), NULL));
    json_t *json = line();
    cr_assert(eq(str, (char *)member(json, "v"), value));
    json_decref(json);
}

/* UTF-8 passes; what only looks like it becomes U+FFFD, and the line stays valid JSON. */
Test(log, broken_utf8_is_replaced)
{
    log_info("x", {"good", log_str("é漢🥝")},
             {"bad", log_str("\xff|\xc3|\xed\xa0\x80|\xc2\x9b")});
    json_t *json = line();
    cr_assert(eq(str, (char *)member(json, "good"), (char *)"é漢🥝"));
    cr_assert(eq(str, (char *)member(json, "bad"), (char *)"�|�|���|��"));
    json_decref(json);
}

/* Every byte string gives a line that parses. */
Test(log, any_bytes_give_valid_json)
{
    unsigned seed = 7;
    for (int round = 0; round < 2000; round++) {
        char value[200];
        size_t n = (size_t)(rand_r(&seed) % (int)sizeof value);
        for (size_t i = 0; i < n; i++)
            value[i] = (char)(rand_r(&seed) % 255 + 1);
        value[n] = '\0';
        cr_assert(eq(int, ftruncate(sink, 0), 0));
        lseek(sink, 0, SEEK_SET);
        log_info(value, {"v", log_str(value)}, {"n", log_int(round)});
        json_decref(line());
    }
}

/* A line that is too long is cut, says so and is still an object. */
Test(log, long_lines_are_cut)
{
    static char value[3 * LOG_LINE_MAX];
    for (size_t n = LOG_LINE_MAX - 200; n < LOG_LINE_MAX + 20; n++) {
        memset(value, n % 2 == 0 ? 'v' : '"', n);
        value[n] = '\0';
        cr_assert(eq(int, ftruncate(sink, 0), 0));
        lseek(sink, 0, SEEK_SET);
        log_info("x", {"v", log_str(value)}, {"name", log_str("w")}, {"n", log_int(12345)});
        cr_assert(le(sz, strlen(written()), (size_t)LOG_LINE_MAX));
        json_t *json = line();
        bool cut = json_is_true(json_object_get(json, "cut"));
        cr_assert(eq(int, cut, json_object_get(json, "n") == NULL), "%zu", n);
        json_decref(json);
    }
}

/* Below the level nothing is written, and log_enabled says so beforehand. */
Test(log, level_is_a_threshold)
{
    log_setup("loquat-test", LOG_WARN, LOG_JSON);
    cr_assert(not(log_enabled(LOG_INFO)));
    cr_assert(log_enabled(LOG_WARN));
    log_info("not this");
    log_debug("nor this", {"a", log_int(1)});
    cr_assert(eq(str, (char *)written(), (char *)""));
    log_error("but this");
    json_decref(line());
}

/* Where standard error is no terminal, automatic means JSON. */
Test(log, automatic_is_json_away_from_a_terminal)
{
    log_setup("loquat-test", LOG_INFO, LOG_AUTO);
    log_info("x");
    json_decref(line());
}

/* Text is for people: one line, no colour when it is no terminal, quotes only where needed. */
Test(log, text_is_plain)
{
    log_setup("loquat-test", LOG_INFO, LOG_TEXT);
    log_info("listening", {"addr", log_str("[::1]:80")}, {"why", log_str("two words\n")},
             {"n", log_int(-3)});
    const char *all = written();
    cr_assert(eq(ptr, strchr(all, '\033'), NULL));
    cr_assert(ne(ptr, strstr(all, "Z info  listening  addr=[::1]:80  "), NULL), "%s", all);
    cr_assert(ne(ptr, strstr(all, "  why=\"two words\\u000a\"  n=-3\n"), NULL), "%s", all);
}

/* A missing string is an empty one. */
Test(log, null_is_empty)
{
    log_info("x", {"v", log_str(NULL)});
    json_t *json = line();
    cr_assert(eq(str, (char *)member(json, "v"), (char *)""));
    json_decref(json);
}

/* A caller's errno is still there after a line. */
Test(log, errno_survives)
{
    close(STDERR_FILENO);
    errno = ENOSPC;
    log_error("nobody reads this");
    cr_assert(eq(int, errno, ENOSPC));
}

static void *many(void *arg)
{
    for (int i = 0; i < 500; i++)
        log_info("from a thread", {"thread", log_int((int64_t)(intptr_t)arg)}, {"i", log_int(i)});
    return NULL;
}

/* Lines of several threads don't mix. */
Test(log, lines_of_threads_stay_whole)
{
    pthread_t threads[4];
    int pipes[2];
    cr_assert(eq(int, pipe(pipes), 0));
    cr_assert(ge(int, dup2(pipes[1], STDERR_FILENO), 0));
    close(pipes[1]);
    for (intptr_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, many, (void *)i);
    FILE *in = fdopen(pipes[0], "r");
    char *got = NULL;
    size_t size = 0;
    for (int i = 0; i < 2000; i++) {
        cr_assert(lt(i64, 0, getline(&got, &size, in)));
        json_t *json = json_loads(got, 0, NULL);
        cr_assert(is_object(json), "%s", got);
        json_decref(json);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    free(got);
    cr_assert(eq(int, fclose(in), 0));
}

/* The end of a process that must not go on is its last line and status 1. */
Test(log, fatal_ends_with_status_1, .exit_code = 1)
{
    log_fatal("cannot sync", "Input/output error");
}

/* The words of options, and which of them is none. */
Test(log, words)
{
    cr_assert(eq(ptr, (void *)(uintptr_t)log_setup_words("t", "warn", "json"), NULL));
    cr_assert(log_enabled(LOG_WARN));
    cr_assert(not(log_enabled(LOG_INFO)));
    cr_assert(eq(str, (char *)(uintptr_t)log_setup_words("t", "loud", "json"), "--log-level"));
    cr_assert(eq(str, (char *)(uintptr_t)log_setup_words("t", "debug", "xml"), "--log-format"));
    cr_assert(not(log_enabled(LOG_INFO)), "a wrong word changes nothing");
}
