/* store/client/cmd_time.c: numbers, durations and times as people write them on a command line. */
#include <string.h>
#include <time.h>

#include "store/client/cmd.h"

bool cmd_whole(const char *text, uint64_t *number)
{
    size_t n = strspn(text, "0123456789");
    *number = 0;
    for (size_t i = 0; i < n && n <= 15; i++)
        *number = *number * 10 + (uint64_t)(text[i] - '0');
    return text[n] == 0 && n > 0 && n <= 15;
}

bool cmd_seconds(const char *text, uint64_t *seconds)
{
    uint64_t number = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9' && number < UINT32_MAX; at++)
        number = number * 10 + (uint64_t)(*at - '0');
    uint64_t unit = *at == 'd' ? 86400 : *at == 'h' ? 3600 : *at == 'm' ? 60 : 1;
    if (*at != 0 && strchr("smhd", *at) != NULL)
        at++;
    *seconds = number * unit;
    return *at == 0 && at > text && *seconds > 0;
}

/* "90m ago" */
static bool take_ago(const char *text, uint64_t now_ms, uint64_t *ms)
{
    static const char AGO[] = " ago";
    char duration[32];
    uint64_t seconds = 0;
    size_t n = strlen(text);
    if (n < sizeof AGO || n - (sizeof AGO - 1) >= sizeof duration ||
        strcmp(text + n - (sizeof AGO - 1), AGO) != 0)
        return false;
    n -= sizeof AGO - 1;
    memcpy(duration, text, n);
    duration[n] = 0;
    if (!cmd_seconds(duration, &seconds))
        return false;
    *ms = seconds < now_ms / 1000 ? now_ms - seconds * 1000 : 1;
    return true;
}

/* Of 1973 at least: a year or seconds by mistake are none. */
static bool take_ms(const char *text, uint64_t *ms)
{
    return cmd_whole(text, ms) && *ms >= 100000000000;
}

/* Exactly `n` digits off *at, a number from `min` to `max`. */
static bool take_digits(const char **at, int n, int min, int max, int *out)
{
    *out = 0;
    for (; n > 0; n--, (*at)++) {
        if (**at < '0' || **at > '9')
            return false;
        *out = *out * 10 + (**at - '0');
    }
    return *out >= min && *out <= max;
}

static bool take_mark(const char **at, const char *marks)
{
    if (**at == 0 || strchr(marks, **at) == NULL)
        return false;
    (*at)++;
    return true;
}

static bool take_fraction(const char **at, int *ms)
{
    int unit = 100, digit = 0, count = 0;
    *ms = 0;
    if (!take_mark(at, "."))
        return true;
    for (; take_digits(at, 1, 0, 9, &digit); unit /= 10, count++)
        *ms += digit * unit;
    return count > 0;
}

/* Z, or +HH:MM in seconds. */
static bool take_zone(const char **at, int *offset_s)
{
    int hours = 0, minutes = 0;
    bool west = **at == '-';
    *offset_s = 0;
    if (take_mark(at, "Zz"))
        return true;
    if (!take_mark(at, "+-") || !take_digits(at, 2, 0, 23, &hours) || !take_mark(at, ":") ||
        !take_digits(at, 2, 0, 59, &minutes))
        return false;
    *offset_s = (hours * 3600 + minutes * 60) * (west ? -1 : 1);
    return true;
}

static bool take_clock(const char **at, struct tm *tm, int *ms)
{
    return take_mark(at, "Tt ") && take_digits(at, 2, 0, 23, &tm->tm_hour) && take_mark(at, ":") &&
           take_digits(at, 2, 0, 59, &tm->tm_min) && take_mark(at, ":") &&
           take_digits(at, 2, 0, 60, &tm->tm_sec) && take_fraction(at, ms);
}

/* RFC 3339; without a zone, or with a day alone, it is local time, as it is printed here. */
static bool take_date(const char *text, uint64_t *out)
{
    struct tm tm = {.tm_isdst = -1};
    const char *at = text;
    int ms = 0, offset_s = 0;
    if (!take_digits(&at, 4, 1970, 9999, &tm.tm_year) || !take_mark(&at, "-") ||
        !take_digits(&at, 2, 1, 12, &tm.tm_mon) || !take_mark(&at, "-") ||
        !take_digits(&at, 2, 1, 31, &tm.tm_mday))
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon--;
    if (*at != 0 && !take_clock(&at, &tm, &ms))
        return false;
    bool local = *at == 0;
    if (!local && (!take_zone(&at, &offset_s) || *at != 0))
        return false;
    int day = tm.tm_mday;
    struct tm normal = tm;
    timegm(&normal);
    if (normal.tm_mday != day && tm.tm_sec < 60) /* there is no such day */
        return false;
    int64_t seconds = (int64_t)(local ? mktime(&tm) : timegm(&tm)) - offset_s;
    *out = (uint64_t)seconds * 1000 + (uint64_t)ms;
    return seconds > 0;
}

bool cmd_time(const char *text, uint64_t now_ms, uint64_t *ms)
{
    *ms = now_ms;
    return strcmp(text, "now") == 0 || take_ms(text, ms) || take_ago(text, now_ms, ms) ||
           take_date(text, ms);
}
