#include "bench/lib/words.h"

#include <jansson.h>

#include "bench/lib/archive.h"

enum { WORDS_FEWEST = 1000 };

static struct buf words; /* of all lines, each with a space behind it */
static uint32_t *begins; /* of each word that has BARE_TEXT bytes from there on */
static size_t begin_count, begin_cap;

static bool is_plain(const char *line)
{
    for (; *line != '\0'; line++)
        if (*line < ' ' || *line > '~' || *line == '"' || *line == '\\')
            return false;
    return true;
}

static void add_line(void *arg, const json_t *line)
{
    const char *lang = json_string_value(json_object_get(line, "lang"));
    const char *text = json_string_value(json_object_get(line, "text"));
    (void)arg;
    if (lang == NULL || strcmp(lang, "en") != 0 || text == NULL || text[0] == '\0' ||
        !is_plain(text))
        return;
    buf_add_str(&words, text);
    buf_add_byte(&words, ' ');
}

static void find_begins(void)
{
    for (size_t i = 0; i + BARE_TEXT <= words.n; i++) {
        if (words.p[i] == ' ' || (i > 0 && words.p[i - 1] != ' '))
            continue;
        if (begin_count == begin_cap) {
            begin_cap = begin_cap == 0 ? 1 << 16 : begin_cap * 2;
            begins = xrealloc(begins, begin_cap * sizeof *begins);
        }
        begins[begin_count++] = (uint32_t)i;
    }
}

static void read_words(void)
{
    archive_each(ARCHIVE_SAMPLE, add_line, NULL);
    find_begins();
    if (begin_count < WORDS_FEWEST)
        bench_fail("%s: too few words of English", ARCHIVE_SAMPLE);
}

void bench_text(uint64_t number, char text[BARE_TEXT])
{
    if (begins == NULL)
        read_words();
    uint64_t mixed = (number + 1) * 0x9e3779b97f4a7c15u;
    memcpy(text, words.p + begins[(mixed >> 32) % begin_count], BARE_TEXT);
}
