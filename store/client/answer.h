/* store/client/answer.h: what the server sends, as the structs of loquat.h. */
#ifndef LOQUAT_CLIENT_ANSWER_H
#define LOQUAT_CLIENT_ANSWER_H

#include "store/base/json.h"
#include "store/client/loquat.h"

enum { ANSWER_CODE_MAX = 32, ANSWER_MESSAGE_MAX = 256 };

/* Texts that end with NUL, for an answer to point to. */
struct answer_words {
    char code[ANSWER_CODE_MAX + 1];
    char message[ANSWER_MESSAGE_MAX + 1];
};

int answer_code(struct span code); /* "not_found" → LOQUAT_NOT_FOUND; unknown → LOQUAT_INTERNAL */
/* `obj`: the outer object with `ok` or `err`. The answer borrows `words` and the parser. */
void answer_parse(struct json *json, const struct json_obj *obj, struct answer_words *words,
                  struct loquat_answer *answer);
void answer_make(int err, const char *message, struct answer_words *words,
                 struct loquat_answer *answer);
/* A record or a hole; `c` where the object itself does not say. False: neither. */
bool record_parse(struct json *json, const struct json_obj *obj, struct span text,
                  struct loquat_text c, struct loquat_record *record);

/* Members of what the server sends: 0, or none, where there is no such one. */
uint64_t answer_number(const struct json_obj *obj, const char *name);
struct span answer_string(const struct json_obj *obj, const char *name);

#endif
