#include "bench/lib/profile.h"

#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/measure.h"
#include "store/base/clock.h"
#include "store/base/json.h"

enum { FILE_MAX = 1 << 20 };

static const char KNOWN[] =
    "{\"share\":{\"edited\":0.07392,\"has_reactions\":0.19092,\"has_attachments\":0.07051,"
    "\"mentions_somebody\":0.04668},\"reactions\":{\"distinct_emoji_per_reacted_message\":"
    "{\"1\":10337,\"2\":1226,\"3\":233,\"4\":60,\"5\":28,\"6\":10,\"8\":23},"
    "\"votes_per_emoji_and_message\":{\"1\":10452,\"2\":2245,\"3\":785,\"4\":316,\"5\":162,"
    "\"6\":94,\"7\":66,\"8\":42,\"9\":27,\"10\":46,\"13\":24,\"20\":20},\"votes_by_emoji\":"
    "{\"👍\":8033,\"❤️\":3675,\"🔥\":1677,\"💯\":1313,\"🤣\":903,\"😂\":629,\"🎉\":"
    "395,"
    "\"👍🏻\":338,\"☝️\":162,\"👀\":179,\"🫡\":70}},\"attachments\":{\"bytes_"
    "histogram\":"
    "{\"<4096\":51,\"<16384\":199,\"<65536\":600,\"<262144\":1598,\"<1048576\":1613,"
    "\"<4194304\":1022,\"<16777216\":139,\"<268435456\":40}}}";

static bool add_count(void *arg, const struct json_field *field)
{
    struct profile_counts *counts = arg;
    size_t at = counts->count;
    if (at == PROFILE_COUNTS_MAX || field->name.n > EMOJI_MAX || field->val.whole <= 0)
        return false;
    memcpy(counts->names[at], field->name.p, field->name.n);
    counts->up_to[at] = (at > 0 ? counts->up_to[at - 1] : 0) + (uint64_t)field->val.whole;
    counts->count++;
    return true;
}

static void open_part(struct json *json, const struct json_obj *of, const char *name,
                      struct json_obj *part)
{
    const struct json_val *val = json_get(of, name);
    if (val == NULL || val->type != JSON_OBJECT || json_open(json, val, part) != 0)
        bench_fail("the profile has no %s", name);
}

static void read_counts(struct json *json, const struct json_obj *of, const char *name,
                        struct profile_counts *counts)
{
    const struct json_val *val = json_get(of, name);
    counts->count = 0;
    if (val == NULL || val->type != JSON_OBJECT || json_each(json, val, add_count, counts) != 0 ||
        counts->count == 0)
        bench_fail("the profile has no %s", name);
}

static double share(const struct json_obj *of, const char *name)
{
    const struct json_val *val = json_get(of, name);
    if (val == NULL || val->type != JSON_NUMBER || val->num < 0 || val->num > 1)
        bench_fail("the profile has no share %s", name);
    return val->num;
}

void profile_read(struct profile *profile, const char *path)
{
    static struct json_obj all, part;
    struct json *json = json_new(FILE_MAX);
    char *text = xcalloc(1, FILE_MAX);
    FILE *file = fopen(path, "re");
    *profile = (struct profile){.found = file != NULL};
    size_t n = file != NULL ? fread(text, 1, FILE_MAX, file) : sizeof KNOWN - 1;
    if (file != NULL)
        (void)fclose(file);
    if (json_parse(json, file != NULL ? text : KNOWN, n, &all) != 0)
        bench_fail("%s: %s", path, json_error(json));
    open_part(json, &all, "share", &part);
    profile->edited = share(&part, "edited");
    profile->reacted = share(&part, "has_reactions");
    profile->filed = share(&part, "has_attachments");
    profile->mentioning = share(&part, "mentions_somebody");
    open_part(json, &all, "reactions", &part);
    read_counts(json, &part, "distinct_emoji_per_reacted_message", &profile->kinds);
    read_counts(json, &part, "votes_per_emoji_and_message", &profile->votes);
    read_counts(json, &part, "votes_by_emoji", &profile->emojis);
    open_part(json, &all, "attachments", &part);
    read_counts(json, &part, "bytes_histogram", &profile->files);
    free(text);
    json_free(json);
}

const char *profile_draw(const struct profile_counts *counts)
{
    uint64_t dice = random_u64() % counts->up_to[counts->count - 1];
    size_t at = 0;
    while (dice >= counts->up_to[at])
        at++;
    return counts->names[at];
}

size_t profile_draw_number(const struct profile_counts *counts)
{
    const char *name = profile_draw(counts);
    return strtoull(name + (*name == '<'), NULL, 10);
}
