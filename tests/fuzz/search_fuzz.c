/* A query, a NUL, a text. Both may be anything; places of what is found lie in the text, in order;
 * and what is found has the terms that the index would be asked for: so it is found there too. */
#include <stdlib.h>

#include "store/base/check.h"
#include "store/search/content.h"
#include "store/search/match.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t utf16_length(struct span utf8)
{
    uint32_t n = 0;
    for (size_t i = 0; i < utf8.n; i++)
        n += ((uint8_t)utf8.p[i] & 0xc0) != 0x80 ? 1 + ((uint8_t)utf8.p[i] >= 0xf0) : 0;
    return n;
}

static void check_spans(const struct match_spans *spans, uint32_t length)
{
    uint32_t at = 0;
    for (size_t i = 0; i < spans->count; i += 2) {
        ASSERT(spans->at[i] >= at && spans->at[i] < spans->at[i + 1]);
        at = spans->at[i + 1];
    }
    ASSERT(at <= length);
}

struct wanted {
    const struct need *need;
    bool met;
};

static void on_term(void *arg, struct span term, struct span run)
{
    struct wanted *wanted = arg;
    (void)run;
    for (size_t i = 0; i < wanted->need->count; i++) {
        struct span asked = term_span(&wanted->need->terms[i]);
        bool begins = term.n >= asked.n && memcmp(term.p, asked.p, asked.n) == 0;
        wanted->met |= begins && (term.n == asked.n || wanted->need->kind == NEED_PREFIX);
    }
}

static void check_needs(const struct query *query, struct content *content, struct span utf8)
{
    static struct need needs[NEEDS_MAX];
    size_t count = query_needs(query, needs);
    struct buf body = {0};
    buf_add_str(&body, "{\"text\":");
    json_put_string(&body, utf8);
    buf_add_byte(&body, '}');
    for (size_t i = 0; i < count; i++) {
        struct posting_builder *builder = posting_builder_new();
        struct wanted wanted = {&needs[i], needs[i].kind == NEED_RANGE};
        content_add_text(content, "", LOQUAT__KIND__KIND_TEXT, buf_span(&body), builder, 7);
        posting_take(builder, on_term, &wanted);
        ASSERT(wanted.met);
        posting_builder_free(builder);
    }
    buf_close(&body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size > 0 ? memchr(data, 0, size) : NULL;
    size_t n = end != NULL ? (size_t)(end - data) : size;
    Loquat__Search search = LOQUAT__SEARCH__INIT;
    struct query query;
    struct content content;
    struct match_spans spans;
    struct posting_set set = {0};
    char *q = xmalloc(n + 1), *text = xmalloc(size + 1);
    memcpy(q, data, n);
    q[n] = 0;
    size_t rest = end != NULL ? size - n - 1 : 0;
    memcpy(text, data + size - rest, rest);
    struct span utf8 = span_of(text, rest);
    search.q = q;
    content_open(&content, 16);
    query_open(&query, &search, span_str("me"));
    query_prepare(&query, content.stemmer, "");
    text_split(&content.text, utf8);
    bool found = match_text(&query, &content.text, content.stemmer, "", &spans);
    if (found)
        check_spans(&spans, utf16_length(utf8));
    bool filters = query.from_count > 0 || query.mention_count > 0 || query.has_file ||
                   query.has_image || query.has_link;
    if (found && !filters && utf8_valid(utf8))
        check_needs(&query, &content, utf8);
    (void)posting_set_add(&set, utf8);
    posting_set_finish(&set);
    posting_set_close(&set);
    query_close(&query);
    content_close(&content);
    free(q);
    free(text);
    return 0;
}
