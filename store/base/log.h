/* store/base/log.h: structured log on standard error. JSON, one object a line; text on a terminal.
 * Never message bodies, never tokens: callers pass what may be read by an operator.
 * Thread: any; a line is one write(). Lines over LOG_LINE_MAX are cut. */
#ifndef LOQUAT_BASE_LOG_H
#define LOQUAT_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum { LOG_LINE_MAX = 2048 };
enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_AUTO, LOG_JSON, LOG_TEXT };

void log_setup(const char *program, enum log_level level, enum log_format format);
/* The same from the words of options; NULL, or which of the two words is none: "--log-level". */
const char *log_setup_words(const char *program, const char *level, const char *format);
bool log_enabled(enum log_level level);

struct log_value {
    int type;
    const char *str;
    int64_t num;
};
struct log_value log_str(const char *text);
struct log_value log_int(int64_t number);

struct log_pair {
    const char *name;
    struct log_value value;
};
void log_pairs(enum log_level level, const char *message, const struct log_pair *pairs, int count);

/* log_info("listening", {"addr", log_str(a)}, {"loops", log_int(2)}); */
#define LOG_AT(level, message, ...)                                                                \
    log_pairs(                                                                                     \
        level, message, (const struct log_pair[]){{0}, ##__VA_ARGS__},                             \
        (int)(sizeof((const struct log_pair[]){{0}, ##__VA_ARGS__}) / sizeof(struct log_pair)))
#define log_debug(...) LOG_AT(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) LOG_AT(LOG_INFO, __VA_ARGS__)
#define log_warn(...) LOG_AT(LOG_WARN, __VA_ARGS__)
#define log_error(...) LOG_AT(LOG_ERROR, __VA_ARGS__)

/* Says why and ends the process with status 1: for what the process must not survive (fsync). */
_Noreturn void log_fatal(const char *message, const char *detail);

#endif
