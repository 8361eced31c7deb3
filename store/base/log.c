#include "store/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "store/base/clock.h"

enum { VALUE_STRING, VALUE_INT };

static const struct {
    const char *name, *colour;
} LEVELS[] = {
    [LOG_DEBUG] = {"debug", "\033[2m"},
    [LOG_INFO] = {"info", "\033[32m"},
    [LOG_WARN] = {"warn", "\033[33m"},
    [LOG_ERROR] = {"error", "\033[31m"},
};

/* Written by log_setup before there are other threads, read-only afterwards. */
static struct {
    const char *program;
    enum log_level level;
    bool text, colour;
} setup = {.program = "loquat", .level = LOG_INFO};

struct line {
    char bytes[LOG_LINE_MAX];
    size_t n, max; /* max leaves room for what closes the line */
    bool cut;
};

/* What a cut line ends with: it stays one valid JSON object. */
static const char CUT_JSON[] = "\"cut\":true}\n";
static const char CUT_TEXT[] = " …\n";
enum { TAIL_MAX = 2 + sizeof CUT_JSON }; /* the longest end: quote, comma, CUT_JSON */

void log_setup(const char *program, enum log_level level, enum log_format format)
{
    bool terminal = isatty(STDERR_FILENO) == 1;
    setup.program = program;
    setup.level = level;
    setup.text = format == LOG_TEXT || (format == LOG_AUTO && terminal);
    setup.colour = setup.text && terminal && getenv("NO_COLOR") == NULL;
}

const char *log_setup_words(const char *program, const char *level, const char *format)
{
    static const char *const FORMATS[] = {
        [LOG_AUTO] = "auto", [LOG_JSON] = "json", [LOG_TEXT] = "text"};
    int level_at = 0, format_at = 0;
    while (level_at <= LOG_ERROR && strcmp(level, LEVELS[level_at].name) != 0)
        level_at++;
    while (format_at <= LOG_TEXT && strcmp(format, FORMATS[format_at]) != 0)
        format_at++;
    if (level_at > LOG_ERROR || format_at > LOG_TEXT)
        return level_at > LOG_ERROR ? "--log-level" : "--log-format";
    log_setup(program, (enum log_level)level_at, (enum log_format)format_at);
    return NULL;
}

bool log_enabled(enum log_level level)
{
    return level >= setup.level;
}

struct log_value log_str(const char *text)
{
    return (struct log_value){.type = VALUE_STRING, .str = text != NULL ? text : ""};
}

struct log_value log_int(int64_t number)
{
    return (struct log_value){.type = VALUE_INT, .num = number};
}

/* All or nothing: a piece that has no room is left out whole and ends the line. */
static void add(struct line *line, const char *p, size_t n)
{
    if (line->cut || line->n + n > line->max) {
        line->cut = true;
        return;
    }
    memcpy(line->bytes + line->n, p, n);
    line->n += n;
}

static void add_text(struct line *line, const char *text)
{
    add(line, text, strlen(text));
}

/* Bytes of the UTF-8 character at p, 0 when there is none. Terminal control by C1 codes counts as
 * none. */
static size_t utf8_size(const unsigned char *p)
{
    size_t n = p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    bool bad = n == 0 || (p[0] == 0xc2 && p[1] < 0xa0) || (p[0] == 0xe0 && p[1] < 0xa0) ||
               (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
               (p[0] == 0xf4 && p[1] > 0x8f);
    return bad ? 0 : n;
}

/* The inside of a JSON string. A byte that is not UTF-8 is written as U+FFFD, controls as \uXXXX:
 * a value can neither end its line nor move a terminal's cursor. */
static void add_escaped(struct line *line, const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0' && !line->cut;) {
        size_t n = 1;
        char code[8];
        if (*p == '"' || *p == '\\') {
            code[0] = '\\';
            code[1] = (char)*p;
            add(line, code, 2);
        } else if (*p < 0x20 || *p == 0x7f) {
            int size = snprintf(code, sizeof code, "\\u%04x", *p);
            add(line, code, (size_t)size);
        } else if (*p < 0x80) {
            add(line, (const char *)p, 1);
        } else if ((n = utf8_size(p)) > 0) {
            add(line, (const char *)p, n);
        } else {
            add_text(line, "\xef\xbf\xbd");
            n = 1;
        }
        p += n;
    }
}

static void add_number(struct line *line, int64_t number)
{
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%lld", (long long)number);
    add(line, digits, (size_t)n);
}

static void add_time(struct line *line)
{
    uint64_t ms = clock_wall_ms();
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    char text[48];
    size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    int more = snprintf(text + n, sizeof text - n, ".%03uZ", (unsigned)(ms % 1000));
    add(line, text, n + (size_t)more);
}

/* A whole member or nothing of it; but of a long string as much as there is room for. */
static void add_json_pair(struct line *line, const struct log_pair *pair)
{
    size_t before = line->n;
    bool string = pair->value.type == VALUE_STRING;
    add_text(line, "\"");
    add_escaped(line, pair->name);
    add_text(line, string ? "\":\"" : "\":");
    if (!line->cut && string) {
        add_escaped(line, pair->value.str);
        memcpy(line->bytes + line->n, "\",", 2); /* there is room for it beyond max */
        line->n += 2;
        return;
    }
    if (!string)
        add_number(line, pair->value.num);
    add_text(line, ",");
    if (line->cut)
        line->n = before;
}

static void write_json(struct line *line, enum log_level level, const char *message,
                       const struct log_pair *pairs, int count)
{
    add_text(line, "{\"ts\":\"");
    add_time(line);
    add_text(line, "\",\"level\":\"");
    add_text(line, LEVELS[level].name);
    add_text(line, "\",");
    add_json_pair(line, &(struct log_pair){"program", log_str(setup.program)});
    add_json_pair(line, &(struct log_pair){"msg", log_str(message)});
    for (int i = 0; i < count && !line->cut; i++)
        if (pairs[i].name != NULL)
            add_json_pair(line, &pairs[i]);
    if (line->cut) {
        memcpy(line->bytes + line->n, CUT_JSON, sizeof CUT_JSON - 1);
        line->n += sizeof CUT_JSON - 1;
    } else { /* over the last comma */
        memcpy(line->bytes + line->n - 1, "}\n", 2);
        line->n += 1;
    }
}

static bool plain(const char *text)
{
    return *text != '\0' && strpbrk(text, " \t\"=") == NULL;
}

static void write_text(struct line *line, enum log_level level, const char *message,
                       const struct log_pair *pairs, int count)
{
    add_time(line);
    add_text(line, " ");
    if (setup.colour)
        add_text(line, LEVELS[level].colour);
    add_text(line, LEVELS[level].name);
    if (setup.colour)
        add_text(line, "\033[0m");
    add_text(line, strlen(LEVELS[level].name) < 5 ? "  " : " ");
    add_escaped(line, message);
    for (int i = 0; i < count; i++) {
        if (pairs[i].name == NULL)
            continue;
        add_text(line, "  ");
        add_escaped(line, pairs[i].name);
        add_text(line, "=");
        if (pairs[i].value.type == VALUE_INT) {
            add_number(line, pairs[i].value.num);
            continue;
        }
        const char *quote = plain(pairs[i].value.str) ? "" : "\"";
        add_text(line, quote);
        add_escaped(line, pairs[i].value.str);
        add_text(line, quote);
    }
    const char *end = line->cut ? CUT_TEXT : "\n";
    memcpy(line->bytes + line->n, end, strlen(end));
    line->n += strlen(end);
}

void log_pairs(enum log_level level, const char *message, const struct log_pair *pairs, int count)
{
    if (!log_enabled(level))
        return;
    int saved = errno;
    struct line line;
    line.n = 0;
    line.max = sizeof line.bytes - TAIL_MAX;
    line.cut = false;
    if (setup.text)
        write_text(&line, level, message, pairs, count);
    else
        write_json(&line, level, message, pairs, count);
    /* One write, so that lines of several threads and processes don't mix. Nowhere is left to say
     * that it failed. */
    ssize_t written = write(STDERR_FILENO, line.bytes, line.n);
    (void)written;
    errno = saved;
}

_Noreturn void log_fatal(const char *message, const char *detail)
{
    log_error(message, {"detail", log_str(detail)});
    _exit(1);
}
