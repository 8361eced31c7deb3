#include "store/search/content.h"

#include "store/base/check.h"

struct span content_text(struct json *json, uint32_t kind, struct span body)
{
    struct json_obj obj;
    const char *name = kind == LOQUAT__KIND__KIND_IMAGE  ? "alt"
                       : kind == LOQUAT__KIND__KIND_FILE ? "name"
                                                         : "text";
    if (body.n == 0 || json_parse(json, body.p, body.n, &obj) != 0)
        return (struct span){0};
    const struct json_val *val = json_get(&obj, name);
    return val != NULL && val->type == JSON_STRING ? val->str : (struct span){0};
}

void content_open(struct content *content, size_t stems)
{
    *content = (struct content){.json = json_new(CONTENT_JSON_MAX), .stemmer = stemmer_new(stems)};
}

void content_close(struct content *content)
{
    json_free(content->json);
    stemmer_free(content->stemmer);
    text_close(&content->text);
}

static void add(struct posting_builder *builder, struct term term, uint16_t place)
{
    posting_add(builder, term_span(&term), place);
}

static void add_word(struct content *content, const char *language, size_t i,
                     struct posting_builder *builder, uint16_t place)
{
    const struct text *text = &content->text;
    const struct atom *atom = &text->atoms[i];
    struct span fold = atom_fold(text, atom);
    add(builder, term_of(TERM_WORD, fold), place);
    struct span stem = stem_of(content->stemmer, language, atom->script, atom_norm(text, atom));
    if (!span_eq(stem, fold))
        add(builder, term_stem(stem), place);
    size_t part_at = 0;
    for (struct span part; text_part(text, atom, &part_at, &part);)
        add(builder, term_of(TERM_WORD, part), place);
    if (i == 0 || !atom->joined || atom[-1].kind != ATOM_SIGN)
        return;
    char sign = text->bytes.p[atom[-1].norm];
    if (atom[-1].norm_n != 1 || (sign != '#' && sign != '@'))
        return;
    char room[1 + ATOM_BYTES_MAX];
    room[0] = sign;
    memcpy(room + 1, fold.p, fold.n);
    add(builder, term_of(TERM_TAG, span_of(room, 1 + fold.n)), place);
}

void content_add_text(struct content *content, const char *language, uint32_t kind,
                      struct span body, struct posting_builder *builder, uint16_t place)
{
    struct span utf8 = content_text(content->json, kind, body);
    if (utf8.n == 0)
        return;
    struct text *text = &content->text;
    text_split(text, utf8);
    for (size_t i = 0; i < text->count; i++) {
        const struct atom *atom = &text->atoms[i];
        if (atom->kind == ATOM_WORD)
            add_word(content, language, i, builder, place);
        else if (atom->kind == ATOM_CHAR)
            add(builder, term_chars(text, atom, term_runs_on(text, i) ? atom + 1 : NULL), place);
        else if (atom->kind == ATOM_EMOJI)
            add(builder, term_of(TERM_EMOJI, atom_fold(text, atom)), place);
    }
    if (term_has_link(utf8))
        add(builder, term_of(TERM_HAS, span_str(TERM_HAS_LINK)), place);
}

void content_add_traits(const struct record_view *record, struct posting_builder *builder,
                        uint16_t place)
{
    struct span rest = record->mentions, user;
    add(builder, term_of(TERM_FROM, record->from), place);
    add(builder, term_day(record->ts), place);
    if (record->kind == LOQUAT__KIND__KIND_FILE)
        add(builder, term_of(TERM_HAS, span_str(TERM_HAS_FILE)), place);
    if (record->kind == LOQUAT__KIND__KIND_IMAGE)
        add(builder, term_of(TERM_HAS, span_str(TERM_HAS_IMAGE)), place);
    if (record->mention_all)
        add(builder, term_of(TERM_MENTION, span_str(TERM_ALL)), place);
    while (record_mention(&rest, &user))
        add(builder, term_of(TERM_MENTION, user), place);
}
