#include "bench/lib/script.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "bench/lib/measure.h"
#include "store/base/map.h"
#include "store/client/import_line.h"
#include "store/client/nick.h"
#include "store/client/source.h"

enum { MINUTE_MS = 60000, BUSY_PERCENT = 60, PEOPLE_PERCENT = 85 };

struct line {
    int64_t ts, reply_to;
    uint32_t user, other, members; /* where they begin in the text */
    uint8_t what;
    bool plain, nobody;
};
/* A conversation of the archive, of which lines first … until are the busiest stretch. */
struct candidate {
    struct buf text; /* its name, and what the lines name; each ends with NUL */
    struct line *lines;
    size_t count, cap, first, until;
    bool chosen;
};
struct reader {
    struct json *json;
    struct candidate *each;
    size_t count, cap;
    struct map people;
    struct script *script;
    int64_t stretch_ms;
    size_t lines_min; /* of a stretch */
};

/* ---- lines ---- */

static uint32_t keep(struct candidate *to, struct span text)
{
    uint32_t at = (uint32_t)to->text.n;
    buf_add_span(&to->text, text);
    buf_add_byte(&to->text, 0);
    return at;
}

static uint8_t what_of(const struct import_line *in)
{
    static const char *const NAMES[] = {
        [SCRIPT_SAY_DELETED] = "deleted", [SCRIPT_JOIN] = "join", [SCRIPT_PART] = "part",
        [SCRIPT_QUIT] = "quit",           [SCRIPT_NICK] = "nick",
    };
    for (uint8_t i = SCRIPT_SAY_DELETED; in->type.p != NULL && i <= SCRIPT_NICK; i++)
        if (span_is(in->type_name, NAMES[i]))
            return i;
    return SCRIPT_SAY;
}

/* A new name may be anything; a line that does not say it is a message like others. */
static void read_nick(struct reader *reader, struct candidate *to, const struct import_line *in,
                      struct line *line)
{
    struct json_obj obj;
    struct buf text = {0};
    char user[USER_MAX + 1];
    buf_addf(&text, "{\"nick\":%.*s}", (int)in->text.n, in->text.p);
    if (json_parse(reader->json, text.p, text.n, &obj) != 0 || obj.fields[0].val.str.n == 0) {
        line->what = SCRIPT_SAY;
    } else {
        nick_user(obj.fields[0].val.str, user);
        line->other = keep(to, span_str(user));
    }
    buf_close(&text);
}

static void add_line(struct reader *reader, struct candidate *to, const struct import_line *in)
{
    static const char BODY[] = ",\"body\":{", TEXT[] = ",\"kind\":\"text\"";
    struct buf out = {0};
    if (to->count == to->cap) {
        to->cap = to->cap * 2 + 64;
        to->lines = xrealloc(to->lines, to->cap * sizeof *to->lines);
    }
    struct line *line = &to->lines[to->count];
    *line = (struct line){.ts = in->ts, .reply_to = in->reply_to, .what = what_of(in)};
    import_line_encode(in, to->count++, (struct span){0}, &out);
    const char *at = memmem(out.p, out.n, BODY, sizeof BODY - 1);
    ASSERT(at != NULL);
    line->plain = memmem(out.p, (size_t)(at - out.p), TEXT, sizeof TEXT - 1) != NULL;
    line->nobody = in->from.p == NULL;
    at += sizeof BODY - 1;
    line->members = keep(to, span_of(at, (size_t)(out.p + out.n - 1 - at)));
    line->user = keep(to, span_str(in->user));
    buf_close(&out);
    if (line->what == SCRIPT_NICK)
        read_nick(reader, to, in, line);
}

static void drop(struct candidate *candidate)
{
    buf_close(&candidate->text);
    free(candidate->lines);
    *candidate = (struct candidate){0};
}

/* Its busiest stretch; false: there is none, or there are no times. */
static bool find_stretch(struct candidate *of, int64_t stretch_ms, size_t lines_min)
{
    size_t first = 0;
    for (size_t i = 0; i < of->count; i++) {
        if (of->lines[i].ts < 0)
            return false;
        while (of->lines[i].ts - of->lines[first].ts >= stretch_ms)
            first++;
        if (i + 1 - first > of->until - of->first) {
            of->first = first;
            of->until = i + 1;
        }
    }
    return of->until - of->first >= lines_min &&
           of->lines[of->until - 1].ts > of->lines[of->first].ts + MINUTE_MS;
}

static void end_candidate(struct reader *reader)
{
    if (reader->count > 0 &&
        !find_stretch(&reader->each[reader->count - 1], reader->stretch_ms, reader->lines_min))
        drop(&reader->each[--reader->count]);
}

static void read_all(struct reader *reader, const char *path)
{
    struct source *source = source_open(path);
    struct span text;
    struct candidate *now = NULL;
    struct buf name = {0};
    uint64_t position = 0;
    if (source == NULL)
        bench_fail("%s can't be read", path);
    while (source_line(source, &text) == 1) {
        struct import_line in;
        const char *why = "";
        if (import_line_parse(reader->json, text, position, &in, NULL, &why) != 0)
            bench_fail("%s: %s", path, why);
        if (now == NULL || !span_eq(in.conv, buf_span(&name))) {
            end_candidate(reader);
            if (reader->count == reader->cap) {
                reader->cap = reader->cap * 2 + 64;
                reader->each = xrealloc(reader->each, reader->cap * sizeof *reader->each);
            }
            now = &reader->each[reader->count++];
            *now = (struct candidate){0};
            keep(now, in.conv);
            name.n = 0;
            buf_add_span(&name, in.conv);
            position = 0;
        }
        add_line(reader, now, &in);
        position++;
    }
    end_candidate(reader);
    buf_close(&name);
    source_close(source);
}

/* ---- people ---- */

static struct map_key key_of(const char *user)
{
    XXH128_hash_t hash = XXH3_128bits(user, strlen(user));
    return (struct map_key){hash.high64, hash.low64};
}

static uint32_t person(struct reader *reader, const char *user)
{
    bool fresh;
    struct script *script = reader->script;
    union map_val *val = map_put(&reader->people, key_of(user), &fresh);
    if (fresh) {
        val->u = script->people_count++;
        script->people = xrealloc(script->people, script->people_count * sizeof *script->people);
        snprintf(script->people[val->u], sizeof *script->people, "%s", user);
    }
    return (uint32_t)val->u;
}

/* How many people it would add. */
static size_t fresh_people(const struct reader *reader, const struct candidate *of)
{
    struct map seen;
    size_t count = 0;
    bool fresh;
    map_init(&seen);
    for (size_t i = of->first; i < of->until; i++) {
        const struct line *line = &of->lines[i];
        for (int both = 0; both < (line->what == SCRIPT_NICK ? 2 : 1); both++) {
            struct map_key key = key_of(of->text.p + (both == 0 ? line->user : line->other));
            map_put(&seen, key, &fresh);
            count += fresh && map_get(&reader->people, key) == NULL;
        }
    }
    map_close(&seen);
    return count;
}

static int busier(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    size_t m = x->until - x->first, n = y->until - y->first;
    return (m < n) - (m > n);
}

static size_t choose(struct reader *reader, struct candidate *which, size_t lines,
                     size_t people_max, size_t lines_max)
{
    size_t count = which->until - which->first;
    if (which->chosen || lines + count > lines_max ||
        reader->script->people_count + fresh_people(reader, which) > people_max)
        return 0;
    for (size_t i = which->first; i < which->until; i++) {
        const struct line *line = &which->lines[i];
        if (!line->nobody)
            person(reader, which->text.p + line->user);
        if (line->what == SCRIPT_NICK)
            person(reader, which->text.p + line->other);
    }
    which->chosen = true;
    reader->script->convs_count++;
    return count;
}

/* How many lines those that were chosen have. */
static size_t choose_all(struct reader *reader, size_t people_max, size_t lines_max)
{
    size_t lines = 0;
    qsort(reader->each, reader->count, sizeof *reader->each, busier);
    for (size_t i = 0; i < reader->count; i++)
        lines += choose(reader, &reader->each[i], lines, people_max * BUSY_PERCENT / 100,
                        lines_max * BUSY_PERCENT / 100);
    for (size_t i = reader->count; i > 0; i--)
        lines += choose(reader, &reader->each[i - 1], lines, people_max * PEOPLE_PERCENT / 100,
                        lines_max);
    return lines;
}

/* ---- the play ---- */

static void comes_up(struct script_conv *conv, uint32_t person, bool joins)
{
    for (size_t i = 0; i < conv->count; i++)
        if (conv->people[i] == person)
            return;
    if (conv->count == conv->cap) {
        conv->cap = conv->cap * 2 + 16;
        conv->people = xrealloc(conv->people, conv->cap * sizeof *conv->people);
        conv->joins = xrealloc(conv->joins, conv->cap * sizeof *conv->joins);
    }
    conv->people[conv->count] = person;
    conv->joins[conv->count++] = joins;
}

/* Of lines that have the same time, the first has it, and the others follow until the next time. */
static double time_of(const struct candidate *of, size_t at)
{
    size_t first = at, until = at;
    int64_t ts = of->lines[at].ts;
    while (first > of->first && of->lines[first - 1].ts == ts)
        first--;
    while (until < of->until && of->lines[until].ts == ts)
        until++;
    int64_t gap = until < of->until ? of->lines[until].ts - ts : MINUTE_MS;
    if (gap > MINUTE_MS)
        gap = MINUTE_MS;
    return (double)(ts - of->lines[of->first].ts) +
           (double)gap * (double)(at - first) / (double)(until - first);
}

static void stage(struct reader *reader, struct candidate *from, double speed)
{
    struct script *script = reader->script;
    uint32_t number = (uint32_t)script->convs_count++;
    struct script_conv *conv = &script->convs[number];
    const char *text = from->text.p;
    *conv = (struct script_conv){.name = text, .lines = (uint32_t)(from->until - from->first)};
    for (size_t i = from->first; i < from->until; i++) {
        const struct line *in = &from->lines[i];
        struct script_line *line = &script->lines[script->count++];
        *line = (struct script_line){.at_us = (uint64_t)(time_of(from, i) * 1000 / speed),
                                     .conv = number,
                                     .place = (uint32_t)(i - from->first),
                                     .person = in->nobody ? SCRIPT_NOBODY
                                                          : person(reader, text + in->user),
                                     .reply = in->reply_to < (int64_t)from->first
                                                  ? -1
                                                  : (int32_t)(in->reply_to - (int64_t)from->first),
                                     .what = in->what,
                                     .plain = in->plain,
                                     .members = text + in->members};
        script->whats[in->what]++;
        if (!in->nobody)
            comes_up(conv, line->person, in->what == SCRIPT_JOIN);
        if (in->what == SCRIPT_NICK) {
            line->other = person(reader, text + in->other);
            comes_up(conv, line->other, true);
        }
    }
    script->texts[number] = from->text;
    from->text = (struct buf){0};
}

static int earlier(const void *a, const void *b)
{
    const struct script_line *x = a, *y = b;
    if (x->at_us != y->at_us)
        return x->at_us < y->at_us ? -1 : 1;
    if (x->conv != y->conv)
        return x->conv < y->conv ? -1 : 1;
    return (x->place > y->place) - (x->place < y->place);
}

void script_read(struct script *script, const char *path, double secs, double speed,
                 size_t people_max, size_t lines_max)
{
    struct reader reader = {.json = json_new(IMPORT_LINE_MAX),
                            .script = script,
                            .stretch_ms = (int64_t)(secs * speed * 1000),
                            .lines_min = 1 + (size_t)secs};
    *script = (struct script){0};
    map_init(&reader.people);
    read_all(&reader, path);
    size_t lines = choose_all(&reader, people_max, lines_max), convs = script->convs_count;
    if (lines == 0)
        bench_fail("%s: nothing in it has times and is small enough", path);
    script->lines = xcalloc(lines, sizeof *script->lines);
    script->convs = xcalloc(convs, sizeof *script->convs);
    script->texts = xcalloc(convs, sizeof *script->texts);
    script->convs_count = 0;
    for (size_t i = 0; i < reader.count; i++) {
        if (reader.each[i].chosen)
            stage(&reader, &reader.each[i], speed);
        drop(&reader.each[i]);
    }
    qsort(script->lines, script->count, sizeof *script->lines, earlier);
    free(reader.each);
    map_close(&reader.people);
    json_free(reader.json);
}

void script_close(struct script *script)
{
    for (size_t i = 0; i < script->convs_count; i++) {
        free(script->convs[i].people);
        free(script->convs[i].joins);
        buf_close(&script->texts[i]);
    }
    free(script->convs);
    free(script->texts);
    free(script->lines);
    free(script->people);
}
