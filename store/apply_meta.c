/* store/apply_meta.c: the settings of a conversation: name, topic, ttl, history, who may write,
 * what can be searched. */
#include "store/base/err.h"
#include "store/base/json.h"
#include "store/command.h"
#include "store/state.h"

enum {
    FIELDS_FIND = LOQUAT__META_FIELD__META_LANG | LOQUAT__META_FIELD__META_SEARCH,
    FIELDS_DIRECT = LOQUAT__META_FIELD__META_TTL | FIELDS_FIND,
    FIELDS_ALL = LOQUAT__META_FIELD__META_NAME | LOQUAT__META_FIELD__META_TOPIC |
                 LOQUAT__META_FIELD__META_TTL | LOQUAT__META_FIELD__META_HISTORY |
                 LOQUAT__META_FIELD__META_ANNOUNCE | FIELDS_FIND,
};

/* A comma but before the first, then the name. */
static void key(struct buf *body, const char *name)
{
    buf_addf(body, body->n > 1 ? ",\"%s\":" : "\"%s\":", name);
}

static void text_or_null(struct buf *body, const char *name, const char *text)
{
    key(body, name);
    if (text[0] != 0)
        json_put_string(body, span_str(text));
    else
        buf_add_str(body, "null");
}

/* What the record says: the fields that are set, as `open` and a Conv have them. */
static void meta_body(struct buf *body, const Loquat__Command *command)
{
    buf_add_byte(body, '{');
    if (command->fields & LOQUAT__META_FIELD__META_NAME) {
        key(body, "name");
        json_put_string(body, span_str(command->name));
    }
    if (command->fields & LOQUAT__META_FIELD__META_TOPIC)
        text_or_null(body, "topic", command->topic);
    if (command->fields & LOQUAT__META_FIELD__META_TTL) {
        key(body, "ttl");
        if (command->ttl_s != 0)
            json_put_u64(body, command->ttl_s);
        else
            buf_add_str(body, "null");
    }
    if (command->fields & LOQUAT__META_FIELD__META_HISTORY) {
        key(body, "history");
        buf_add_str(body, command->history_joined ? "\"joined\"" : "\"all\"");
    }
    if (command->fields & LOQUAT__META_FIELD__META_ANNOUNCE) {
        key(body, "announce");
        buf_add_str(body, command->announce ? "true" : "false");
    }
    if (command->fields & LOQUAT__META_FIELD__META_LANG)
        text_or_null(body, "lang", command->lang);
    if (command->fields & LOQUAT__META_FIELD__META_SEARCH) {
        key(body, "searchable");
        buf_add_str(body, command->search_off ? "false" : "true");
    }
    buf_add_byte(body, '}');
}

static bool same_meta(const Loquat__Record *record, const Loquat__Command *command)
{
    struct buf body = {0};
    meta_body(&body, command);
    return state_same_body(record, LOQUAT__KIND__KIND_META, &body);
}

/* Which of the fields would change something. */
static uint32_t changed(const Loquat__ConvHeader *header, const Loquat__Command *command)
{
    uint32_t fields = 0;
    if (strcmp(header->name, command->name) != 0)
        fields |= LOQUAT__META_FIELD__META_NAME;
    if (strcmp(header->topic, command->topic) != 0)
        fields |= LOQUAT__META_FIELD__META_TOPIC;
    if (header->ttl_s != command->ttl_s)
        fields |= LOQUAT__META_FIELD__META_TTL;
    if (header->history_joined != command->history_joined)
        fields |= LOQUAT__META_FIELD__META_HISTORY;
    if (header->announce != command->announce)
        fields |= LOQUAT__META_FIELD__META_ANNOUNCE;
    if (strcmp(header->lang, command->lang) != 0)
        fields |= LOQUAT__META_FIELD__META_LANG;
    if (header->search_off != command->search_off)
        fields |= LOQUAT__META_FIELD__META_SEARCH;
    return fields & command->fields;
}

static void set(struct apply *apply, struct conv *conv, const Loquat__Command *command)
{
    Loquat__ConvHeader *header = conv->header;
    struct buf body = {0};
    meta_body(&body, command);
    state_append_body(apply, conv, command, LOQUAT__KIND__KIND_META, &body);
    if (command->fields & LOQUAT__META_FIELD__META_NAME)
        state_text_set(&header->name, command->name);
    if (command->fields & LOQUAT__META_FIELD__META_TOPIC)
        state_text_set(&header->topic, command->topic);
    if (command->fields & LOQUAT__META_FIELD__META_TTL)
        header->ttl_s = command->ttl_s;
    if (command->fields & LOQUAT__META_FIELD__META_HISTORY)
        header->history_joined = command->history_joined;
    if (command->fields & LOQUAT__META_FIELD__META_ANNOUNCE)
        header->announce = command->announce;
    if (command->fields & LOQUAT__META_FIELD__META_LANG)
        state_text_set(&header->lang, command->lang);
    if (command->fields & LOQUAT__META_FIELD__META_SEARCH)
        header->search_off = command->search_off;
    state_conv_save(apply, conv);
}

int apply_op_meta(struct apply *apply, const Loquat__Command *command)
{
    struct conv *conv = NULL;
    struct member *member = NULL;
    int err = apply_begin(apply, command, same_meta, &conv, &member);
    if (err != 0 || conv == NULL)
        return err;
    if ((command->fields & FIELDS_FIND) != 0 && apply->entry_version < ENTRY_VERSION_FIND)
        return state_refuse_old(apply);
    bool direct = conv->header->kind == LOQUAT__CONV_KIND__CONV_DIRECT;
    if (command->fields == 0 || (command->fields & ~(uint32_t)FIELDS_ALL) != 0)
        return state_refuse(apply, ERR_BAD_REQUEST, "no setting is named");
    if (direct && (command->fields & ~(uint32_t)FIELDS_DIRECT) != 0)
        return state_refuse(apply, ERR_BAD_REQUEST,
                            "a direct conversation has no settings but ttl, lang and searchable");
    if (!direct && !command->admin &&
        (member == NULL || member->row->role < LOQUAT__ROLE__ROLE_ADMIN))
        return state_refuse(apply, ERR_FORBIDDEN, "only an owner or admin changes settings");
    if ((command->fields & LOQUAT__META_FIELD__META_NAME) && command->name[0] == 0)
        return state_refuse(apply, ERR_BAD_REQUEST, "a group has a name");
    if ((command->fields & LOQUAT__META_FIELD__META_LANG) && !lang_valid(span_str(command->lang)))
        return state_refuse(apply, ERR_BAD_REQUEST, "lang is a code of two or three letters");
    if (changed(conv->header, command) != 0) /* else it is so already: seq 0 */
        set(apply, conv, command);
    return 0;
}
