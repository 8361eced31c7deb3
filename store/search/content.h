/* store/search/content.h: what of a message can be searched: its text, by its kind: `text` of a
 * text, and of an application's own where it is one; `alt` of an image; `name` of a file.
 * Owner:  a text borrows the parser and the body. Thread: one parser, one thread. */
#ifndef LOQUAT_STORE_SEARCH_CONTENT_H
#define LOQUAT_STORE_SEARCH_CONTENT_H

#include "store/base/json.h"
#include "store/base/record.h"
#include "store/search/posting.h"

enum { CONTENT_JSON_MAX = 1 << 20 };

struct span content_text(struct json *json, uint32_t kind, struct span body);

/* Adds all terms of a message at `place`. The text is that of its newest body. */
struct content {
    struct json *json;
    struct text text;
    struct stemmer *stemmer;
};
void content_open(struct content *content, size_t stems); /* that it keeps: stemmer_new */
void content_close(struct content *content);
void content_add_text(struct content *content, const char *language, uint32_t kind,
                      struct span body, struct posting_builder *builder, uint16_t place);
/* Of what does not change: author, day, mentions, kind. */
void content_add_traits(const struct record_view *record, struct posting_builder *builder,
                        uint16_t place);

#endif
