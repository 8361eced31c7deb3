#include "compaction/report.h"

#include <stdio.h>

#include "compaction/policy.h"
#include "store/base/json.h"

static const char *const words[CAUSE_COUNT] = {
    "live",    "below the floor",  "expired",         "replaced edits",
    "deleted", "already stripped", "entries of feeds"};

static unsigned long long num(uint64_t number)
{
    return number;
}

/* ---- for people ---- */

/* 1,234,567 */
static const char *count(uint64_t number, char room[32])
{
    char digits[32];
    int n = snprintf(digits, sizeof digits, "%llu", num(number)), at = 0;
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0)
            room[at++] = ',';
        room[at++] = digits[i];
    }
    room[at] = 0;
    return room;
}

static const char *size(uint64_t bytes, char room[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    int unit = 0;
    for (; value >= 1024 && unit < 4; unit++)
        value /= 1024;
    snprintf(room, 32, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return room;
}

static void text_causes(const Loquat__Report *report, bool went, struct buf *out)
{
    char a[32], b[32], c[32];
    uint64_t rows = 0, bytes = 0;
    buf_addf(out, "%-18s %14s %14s %14s\n", went ? "what went" : "rows by cause", "rows", "bytes",
             went ? "went" : "can go");
    for (size_t i = 0; i < report->n_tallies; i++) {
        const Loquat__Tally *tally = report->tallies[i];
        bool only_went = went || tally->cause == CAUSE_FEED; /* no plan looks at feeds */
        if (tally->cause >= CAUSE_COUNT || (only_went && tally->rows == 0))
            continue;
        buf_addf(out, "  %-16s %14s %14s %14s\n", words[tally->cause], count(tally->rows, a),
                 size(tally->bytes, b), size(tally->gone, c));
        rows += tally->rows;
        bytes += tally->bytes;
    }
    buf_addf(out, "  %-16s %14s %14s %14s\n", "all", count(rows, a), size(bytes, b),
             size(report_gone(report), c));
}

static void text_families(const Loquat__Report *report, struct buf *out)
{
    char a[32], b[32], c[32];
    uint64_t disk = 0;
    buf_addf(out, "%-18s %14s %14s %14s\n", "family", "rows, about", "on disk", "in memory");
    for (size_t i = 0; i < report->n_families; i++) {
        const Loquat__FamilyStat *family = report->families[i];
        buf_addf(out, "  %-16s %14s %14s %14s\n", family->name, count(family->rows, a),
                 size(family->bytes, b), size(family->memory, c));
        disk += family->bytes;
    }
    buf_addf(out, "  %-16s %14s %14s\n", "all", "", size(disk, b));
}

static void text_convs(const Loquat__Report *report, bool floors, struct buf *out)
{
    char a[32], b[32], c[32];
    if (report->n_convs == 0)
        return;
    buf_addf(out, "%-30s %12s %12s %12s  %s\n", "conversation", "messages", "bytes", "can go",
             floors ? "floor" : "kept from");
    for (size_t i = 0; i < report->n_convs; i++) {
        const Loquat__ConvReport *conv = report->convs[i];
        buf_addf(out, "  %-28s %12s %12s %12s  %llu", conv->conv, count(conv->n, a),
                 size(conv->bytes, b), size(conv->gone, c), num(conv->floor));
        if (conv->new_floor != conv->floor)
            buf_addf(out, " -> %llu", num(conv->new_floor));
        buf_addf(out, " of %llu\n", num(conv->head));
    }
}

static void text_damages(const Loquat__Report *report, struct buf *out)
{
    for (size_t i = 0; i < report->n_damages; i++) {
        const Loquat__Damage *damage = report->damages[i];
        buf_addf(out, "DAMAGED  %s, partition %u", damage->family, damage->partition);
        if (damage->conv[0] != 0)
            buf_addf(out, ", %s", damage->conv);
        if (damage->seq != 0)
            buf_addf(out, ", sequence %llu", num(damage->seq));
        buf_addf(out, ": %s\n", damage->what);
    }
    if (report->damage_count > report->n_damages)
        buf_addf(out, "and %llu more\n", num(report->damage_count - report->n_damages));
}

static void text_verify(const struct report_about *about, const Loquat__Report *report,
                        struct buf *out)
{
    char a[32], b[32];
    text_damages(report, out);
    buf_addf(out, "%s rows of %s conversations were read: ", count(report->rows, a),
             count(report->conv_count, b));
    if (report->damage_count == 0) {
        buf_add_str(out, "all are as they should be\n");
        return;
    }
    buf_addf(out, "%s places are damaged\n", count(report->damage_count, a));
    buf_addf(out,
             "What to do: stop the server, keep a copy of %s as it is, check the disk and the "
             "memory of the machine, and restore the directory from a backup. Until then what is "
             "not damaged can be read: a damaged record is refused, never served wrong.\n",
             about->dir);
}

static void text_run(const Loquat__Report *report, struct buf *out)
{
    char a[32], b[32];
    text_causes(report, true, out);
    buf_addf(out, "floors raised: %s of %s conversations\n", count(report->raised, a),
             count(report->conv_count, b));
    buf_addf(out, "on disk: %s before, ", size(report->disk_before, a));
    buf_addf(out, "%s after", size(report->disk_after, b));
    if (report->disk_after < report->disk_before)
        buf_addf(out, ": %s reclaimed", size(report->disk_before - report->disk_after, a));
    buf_add_str(out, "\n");
}

void report_text(const struct report_about *about, const Loquat__Report *report, struct buf *out)
{
    char a[32], b[32];
    switch (about->op) {
    case LOQUAT__CONTROL_OP__CONTROL_STATUS:
        buf_addf(out, "%s: %s\n", about->dir,
                 about->running ? "in use by a running node" : "at rest");
        text_families(report, out);
        text_causes(report, false, out);
        text_convs(report, true, out);
        break;
    case LOQUAT__CONTROL_OP__CONTROL_PLAN:
        text_causes(report, false, out);
        text_convs(report, false, out);
        buf_addf(out, "floors to be raised: %s of %s conversations\n", count(report->raised, a),
                 count(report->conv_count, b));
        break;
    case LOQUAT__CONTROL_OP__CONTROL_RUN:
        text_run(report, out);
        break;
    case LOQUAT__CONTROL_OP__CONTROL_REINDEX:
        buf_addf(out, "segments of the search index made anew: %s\n", count(report->segments, a));
        break;
    default:
        text_verify(about, report, out);
        break;
    }
    for (size_t i = 0; i < report->n_notes; i++)
        buf_addf(out, "note: %s\n", report->notes[i]);
}

uint64_t report_gone(const Loquat__Report *report)
{
    uint64_t gone = 0;
    for (size_t i = 0; i < report->n_tallies; i++)
        gone += report->tallies[i]->gone;
    return gone;
}

/* ---- JSON ---- */

static void put_string(struct buf *out, const char *name, const char *text)
{
    buf_addf(out, ",\"%s\":", name);
    json_put_string(out, span_str(text));
}

static void put_number(struct buf *out, const char *name, uint64_t number)
{
    buf_addf(out, ",\"%s\":%llu", name, num(number));
}

/* What was written since `start` began with a comma that must go. */
static void open_brace(struct buf *out, size_t start)
{
    out->p[start] = '{';
}

static void json_causes(const Loquat__Report *report, struct buf *out)
{
    size_t start = out->n + strlen(",\"causes\":");
    buf_add_str(out, ",\"causes\":");
    for (size_t i = 0; i < report->n_tallies; i++) {
        const Loquat__Tally *tally = report->tallies[i];
        if (tally->cause < CAUSE_COUNT)
            buf_addf(out, ",\"%s\":{\"rows\":%llu,\"bytes\":%llu,\"gone\":%llu}",
                     cause_name((enum cause)tally->cause), num(tally->rows), num(tally->bytes),
                     num(tally->gone));
    }
    if (out->n == start)
        buf_add_byte(out, '{');
    open_brace(out, start);
    buf_add_byte(out, '}');
}

static void json_convs(const Loquat__Report *report, struct buf *out)
{
    buf_add_str(out, ",\"convs\":[");
    for (size_t i = 0; i < report->n_convs; i++) {
        const Loquat__ConvReport *conv = report->convs[i];
        if (i > 0)
            buf_add_byte(out, ',');
        size_t start = out->n;
        put_string(out, "c", conv->conv);
        put_number(out, "partition", conv->partition);
        put_number(out, "head", conv->head);
        put_number(out, "n", conv->n);
        put_number(out, "floor", conv->floor);
        put_number(out, "new_floor", conv->new_floor);
        put_number(out, "bytes", conv->bytes);
        put_number(out, "gone", conv->gone);
        open_brace(out, start);
        buf_add_byte(out, '}');
    }
    buf_add_byte(out, ']');
}

static void json_families(const Loquat__Report *report, struct buf *out)
{
    buf_add_str(out, ",\"families\":[");
    for (size_t i = 0; i < report->n_families; i++) {
        const Loquat__FamilyStat *family = report->families[i];
        if (i > 0)
            buf_add_byte(out, ',');
        size_t start = out->n;
        put_string(out, "family", family->name);
        put_number(out, "rows", family->rows);
        put_number(out, "bytes", family->bytes);
        put_number(out, "memory", family->memory);
        open_brace(out, start);
        buf_add_byte(out, '}');
    }
    buf_add_byte(out, ']');
}

static void json_damages(const Loquat__Report *report, struct buf *out)
{
    buf_add_str(out, ",\"damages\":[");
    for (size_t i = 0; i < report->n_damages; i++) {
        const Loquat__Damage *damage = report->damages[i];
        if (i > 0)
            buf_add_byte(out, ',');
        size_t start = out->n;
        put_string(out, "family", damage->family);
        put_number(out, "partition", damage->partition);
        put_string(out, "c", damage->conv);
        put_number(out, "s", damage->seq);
        put_string(out, "what", damage->what);
        open_brace(out, start);
        buf_add_byte(out, '}');
    }
    buf_add_byte(out, ']');
}

void report_json(const struct report_about *about, const Loquat__Report *report, struct buf *out)
{
    static const char *const ops[] = {"", "status", "plan", "run", "verify", "reindex"};
    size_t start = out->n;
    put_string(out, "op", about->op < sizeof ops / sizeof *ops ? ops[about->op] : "");
    put_string(out, "data", about->dir);
    buf_addf(out, ",\"running\":%s,\"ok\":%s", about->running ? "true" : "false",
             report->err == 0 &&
                     (about->op != LOQUAT__CONTROL_OP__CONTROL_VERIFY || report->damage_count == 0)
                 ? "true"
                 : "false");
    if (report->err != 0)
        put_string(out, "error", report->msg);
    put_number(out, "conversations", report->conv_count);
    put_number(out, "rows", report->rows);
    put_number(out, "raised", report->raised);
    put_number(out, "gone", report_gone(report));
    put_number(out, "disk_before", report->disk_before);
    put_number(out, "disk_after", report->disk_after);
    put_number(out, "damaged", report->damage_count);
    put_number(out, "segments", report->segments);
    json_causes(report, out);
    json_families(report, out);
    json_convs(report, out);
    json_damages(report, out);
    buf_add_str(out, ",\"notes\":[");
    for (size_t i = 0; i < report->n_notes; i++) {
        if (i > 0)
            buf_add_byte(out, ',');
        json_put_string(out, span_str(report->notes[i]));
    }
    buf_add_str(out, "]}\n");
    open_brace(out, start);
}
