#include "compaction/outcome.h"

#include <stdarg.h>
#include <stdio.h>

void outcome_init(struct outcome *outcome, uint32_t top)
{
    *outcome = (struct outcome){.report = LOQUAT__REPORT__INIT};
    arena_init(&outcome->arena);
    outcome->report.convs = outcome->top;
    outcome->report.damages = outcome->damages;
    outcome->report.notes = outcome->notes;
    outcome->top_max = top == 0 ? KEEPER_TOP_DEFAULT : top < KEEPER_TOP_MAX ? top : KEEPER_TOP_MAX;
}

void outcome_close(struct outcome *outcome)
{
    arena_close(&outcome->arena);
}

static char *copy(struct outcome *outcome, const char *text)
{
    return arena_copy(&outcome->arena, text, strlen(text));
}

/* What stands in damaged rows may be any bytes; it goes to terminals and into JSON. */
static void make_plain(char *text)
{
    for (; *text != 0; text++)
        if (*text < ' ' || *text > '~')
            *text = '?';
}

static bool larger(const Loquat__ConvReport *a, const Loquat__ConvReport *b, bool by_gone)
{
    return by_gone ? a->gone > b->gone : a->bytes > b->bytes;
}

/* Keeps the list sorted; the smallest falls out. Their number is small. */
static void list_top(struct outcome *outcome, const Loquat__ConvReport *conv, bool by_gone)
{
    Loquat__Report *report = &outcome->report;
    size_t at = report->n_convs;
    while (at > 0 && larger(conv, outcome->top[at - 1], by_gone))
        at--;
    if (at == outcome->top_max)
        return;
    Loquat__ConvReport *room;
    if (report->n_convs < outcome->top_max)
        room = arena_alloc(&outcome->arena, sizeof *room + CONV_ID_MAX + 1);
    else
        room = outcome->top[--report->n_convs];
    memmove(outcome->top + at + 1, outcome->top + at,
            (report->n_convs - at) * sizeof(Loquat__ConvReport *));
    report->n_convs++;
    outcome->top[at] = room;
    *room = *conv;
    room->conv = (char *)(room + 1);
    snprintf(room->conv, CONV_ID_MAX + 1, "%s", conv->conv);
    make_plain(room->conv);
}

void outcome_conv(struct outcome *outcome, const struct survey_conv *conv, bool by_gone)
{
    Loquat__Report *report = &outcome->report;
    Loquat__ConvReport row = LOQUAT__CONV_REPORT__INIT;
    row.conv = (char *)(uintptr_t)conv->name;
    row.partition = conv->partition;
    row.head = conv->head;
    row.n = conv->n;
    row.floor = conv->floor > 0 ? conv->floor : 1;
    row.new_floor = conv->new_floor > 0 ? conv->new_floor : 1;
    for (int i = 0; i < CAUSE_COUNT; i++) {
        row.bytes += conv->tallies[i].bytes;
        row.gone += conv->tallies[i].gone;
        report->rows += conv->tallies[i].rows;
    }
    tally_join(outcome->tallies, conv->tallies);
    report->conv_count++;
    report->raised += conv->new_floor > conv->floor;
    report->damage_count += conv->damaged;
    if (by_gone ? row.gone > 0 : row.bytes > 0)
        list_top(outcome, &row, by_gone);
}

uint64_t outcome_disk_bytes(struct kv *kv)
{
    uint64_t bytes = 0;
    for (int cf = 0; cf < KV_CF_COUNT; cf++)
        bytes += kv_property(kv, (enum kv_cf)cf, "rocksdb.total-sst-files-size");
    return bytes;
}

void outcome_families(struct outcome *outcome, struct kv *kv)
{
    Loquat__FamilyStat **families =
        arena_alloc(&outcome->arena, KV_CF_COUNT * sizeof(Loquat__FamilyStat *));
    for (int i = 0; i < KV_CF_COUNT; i++) {
        enum kv_cf cf = (enum kv_cf)i;
        Loquat__FamilyStat *family = arena_alloc(&outcome->arena, sizeof *family);
        loquat__family_stat__init(family);
        family->name = copy(outcome, kv_cf_name(cf));
        family->rows = kv_property(kv, cf, "rocksdb.estimate-num-keys");
        family->bytes = kv_property(kv, cf, "rocksdb.total-sst-files-size");
        family->memory = kv_property(kv, cf, "rocksdb.cur-size-all-mem-tables");
        families[i] = family;
    }
    outcome->report.families = families;
    outcome->report.n_families = KV_CF_COUNT;
}

void outcome_damage(struct outcome *outcome, enum kv_cf cf, uint32_t partition, const char *conv,
                    uint64_t seq, const char *what)
{
    Loquat__Report *report = &outcome->report;
    report->damage_count++;
    if (report->n_damages == OUTCOME_DAMAGES_MAX)
        return;
    Loquat__Damage *damage = arena_alloc(&outcome->arena, sizeof *damage);
    loquat__damage__init(damage);
    damage->family = copy(outcome, kv_cf_name(cf));
    damage->partition = partition;
    damage->conv = copy(outcome, conv);
    damage->seq = seq;
    damage->what = copy(outcome, what);
    make_plain(damage->conv);
    make_plain(damage->what);
    outcome->damages[report->n_damages++] = damage;
}

void outcome_note(struct outcome *outcome, const char *format, ...)
{
    char text[256];
    va_list args;
    if (outcome->report.n_notes == KEEPER_NOTES_MAX)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    outcome->notes[outcome->report.n_notes++] = copy(outcome, text);
}

void outcome_pack(struct outcome *outcome, int err, const char *msg, struct buf *out)
{
    Loquat__Report *report = &outcome->report;
    Loquat__Tally rows[CAUSE_COUNT], *pointers[CAUSE_COUNT];
    for (int i = 0; i < CAUSE_COUNT; i++) {
        loquat__tally__init(&rows[i]);
        rows[i].cause = (uint32_t)i;
        rows[i].rows = outcome->tallies[i].rows;
        rows[i].bytes = outcome->tallies[i].bytes;
        rows[i].gone = outcome->tallies[i].gone;
        pointers[i] = &rows[i];
    }
    report->done = true;
    report->err = err;
    report->msg = (char *)(uintptr_t)msg;
    report->tallies = pointers;
    report->n_tallies = CAUSE_COUNT;
    out->n = 0;
    loquat__report__pack(report, (uint8_t *)buf_grow(out, loquat__report__get_packed_size(report)));
    report->tallies = NULL;
    report->n_tallies = 0;
}
