#include "store/base/config.h"

#include <argp.h>
#include <ctype.h>
#include <cyaml/cyaml.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/file.h"

enum {
    WHY_MAX = 512,
    STATUS_FAILED = 1,
    STATUS_USAGE = 2,
    KEY_FIRST = 0x1000, /* argp: options without a short flag */
    KEY_CONFIG = KEY_FIRST - 1,
    KEY_SHOW = KEY_FIRST - 2,
};

/* One setting as text, by source; NULL: not given there. Later sources are stronger. */
struct given {
    const char *file, *env, *flag;
};

struct config {
    const struct config_option *options;
    size_t count;
    struct given *given;
    char why[WHY_MAX];
    bool later; /* the same settings may do another time */

    const char *path; /* of the file, NULL: none */
    struct buf text;  /* the file */
    bool show;
    int first_arg;
};

/* Always false, so that a check can end with it. The first reason stays. */
__attribute__((format(printf, 2, 3))) static bool fail(struct config *config, const char *format,
                                                       ...)
{
    va_list args;
    va_start(args, format);
    if (config->why[0] == '\0')
        vsnprintf(config->why, sizeof config->why, format, args);
    va_end(args);
    return false;
}

/* ---- values --------------------------------------------------------------------------------- */

static uint64_t max_of(const struct config_option *option)
{
    return option->max > 0 ? option->max : UINT64_MAX;
}

static bool parse_uint(const char *text, uint64_t *v)
{
    if (*text == '\0' || text[strspn(text, "0123456789")] != '\0')
        return false;
    errno = 0;
    *v = strtoull(text, NULL, 10);
    return errno == 0;
}

static bool parse_flag(const char *text, bool *v)
{
    static const char *const YES[] = {"yes", "true", "on", "1"};
    static const char *const NO[] = {"no", "false", "off", "0"};
    for (size_t i = 0; i < sizeof YES / sizeof *YES; i++) {
        if (strcasecmp(text, YES[i]) == 0 || strcasecmp(text, NO[i]) == 0) {
            *v = strcasecmp(text, YES[i]) == 0;
            return true;
        }
    }
    return false;
}

/* True when `text` may be the option's value. `where`: what precedes the message. */
static bool check_value(struct config *config, const struct config_option *option, const char *text,
                        const char *where)
{
    uint64_t number = strlen(text);
    bool flag;
    switch (option->type) {
    case CONFIG_FLAG:
        return parse_flag(text, &flag) ||
               fail(config, "%s: \"%.64s\" is neither yes nor no", where, text);
    case CONFIG_UINT:
        if (!parse_uint(text, &number) || number < option->min || number > max_of(option))
            return fail(config,
                        "%s: \"%.64s\" won't do; give a whole number from %" PRIu64 " to %" PRIu64,
                        where, text, option->min, max_of(option));
        return true;
    case CONFIG_STRING:
        if (number < option->min)
            return fail(config, "%s: \"%.64s\" is too short; the least is %" PRIu64 " bytes", where,
                        text, option->min);
        if (number > max_of(option))
            return fail(config, "%s: %" PRIu64 " bytes are too long; the most is %" PRIu64, where,
                        number, max_of(option));
        return true;
    }
    return false;
}

/* Strings in force live as long as the process; this is where they can be found. */
struct kept {
    struct kept *next;
    char *text;
};
static struct kept *kept_strings;

static char *keep(const char *text)
{
    struct kept *kept = xmalloc(sizeof *kept);
    *kept = (struct kept){.next = kept_strings, .text = xstrdup(text)};
    kept_strings = kept;
    return kept->text;
}

static void assign(const struct config_option *option, const char *text)
{
    switch (option->type) {
    case CONFIG_FLAG:
        parse_flag(text, option->value);
        break;
    case CONFIG_UINT:
        parse_uint(text, option->value);
        break;
    case CONFIG_STRING:
        *(char **)option->value = keep(text);
        break;
    }
}

static size_t find_option(const struct config *config, const char *name)
{
    size_t i = 0;
    while (i < config->count && strcmp(config->options[i].name, name) != 0)
        i++;
    return i;
}

/* ---- file ----------------------------------------------------------------------------------- */

/* libcyaml loads and prints by schema. Every value is text there and is checked in one place for
 * all sources. The positions that it reports are those of the event before the wrong one, so a
 * refused file is walked once more with libyaml to say exactly where. */
struct schema {
    cyaml_schema_field_t *fields;
    cyaml_schema_value_t top;
    cyaml_config_t cyaml;
    bool complained;
};

static void on_cyaml_log(cyaml_log_t level, void *schema, const char *format, va_list args)
{
    (void)level;
    (void)format;
    (void)args;
    ((struct schema *)schema)->complained = true;
}

static void *on_cyaml_memory(void *context, void *ptr, size_t size)
{
    (void)context;
    if (size > 0)
        return xrealloc(ptr, size);
    free(ptr);
    return NULL;
}

static void schema_init(struct schema *schema, const struct config *config)
{
    schema->fields = xcalloc(config->count + 1, sizeof *schema->fields);
    for (size_t i = 0; i < config->count; i++) {
        schema->fields[i] = (cyaml_schema_field_t){
            .key = config->options[i].name,
            .data_offset = (uint32_t)(i * sizeof(char *)),
            .value = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, char *, 0,
                                         CYAML_UNLIMITED)},
        };
    }
    schema->top = (cyaml_schema_value_t){
        .type = CYAML_MAPPING,
        .flags = CYAML_FLAG_POINTER,
        .data_size = (uint32_t)(config->count * sizeof(char *)),
        .mapping = {.fields = schema->fields},
    };
    schema->complained = false;
    schema->cyaml = (cyaml_config_t){
        .log_fn = on_cyaml_log,
        .log_ctx = schema,
        .mem_fn = on_cyaml_memory,
        .log_level = CYAML_LOG_NOTICE, /* it only notices a second document */
    };
}

static bool fail_at(struct config *config, yaml_mark_t mark, const char *what, const char *name)
{
    return fail(config, "%s:%zu:%zu: %s%s%.64s", config->path, mark.line + 1, mark.column + 1, what,
                *name != '\0' ? ": " : "", name);
}

/* One key or value directly under the root. False when it explains the refusal. */
static bool explain_event(struct config *config, const yaml_event_t *event, bool is_key, bool *seen)
{
    if (event->type == YAML_ALIAS_EVENT && !is_key)
        return true;
    if (event->type != YAML_SCALAR_EVENT)
        return is_key
                   ? fail_at(config, event->start_mark, "a setting's name must be plain text", "")
                   : fail_at(config, event->start_mark, "a setting has one value, not a list", "");
    if (!is_key)
        return true;
    const char *name = (const char *)event->data.scalar.value;
    size_t i = find_option(config, name);
    if (i == config->count)
        return fail_at(config, event->start_mark, "unknown setting (--help lists them)", name);
    if (seen[i])
        return fail_at(config, event->start_mark, "given twice; keep one", name);
    seen[i] = true;
    return true;
}

/* Walks the document until something explains the refusal, or, when `sought` is given, until its
 * value is found, whose place goes to *mark. */
static bool walk_events(struct config *config, yaml_parser_t *parser, bool *seen, size_t sought,
                        yaml_mark_t *mark)
{
    int depth = 0, nodes = 0, documents = 0;
    size_t key = config->count;
    for (;;) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event) && parser->error == YAML_MEMORY_ERROR)
            check_no_memory(0);
        if (parser->error != YAML_NO_ERROR)
            return fail_at(config, parser->problem_mark, "not YAML",
                           parser->problem != NULL ? parser->problem : "");
        bool fine = true, end = event.type == YAML_STREAM_END_EVENT;
        yaml_event_type_t type = event.type;
        if (type == YAML_DOCUMENT_START_EVENT && ++documents > 1)
            fine = fail_at(config, event.start_mark, "a second document; keep one", "");
        bool starts = type == YAML_MAPPING_START_EVENT || type == YAML_SEQUENCE_START_EVENT;
        bool node = starts || type == YAML_SCALAR_EVENT || type == YAML_ALIAS_EVENT;
        if (node && depth == 0 && type != YAML_MAPPING_START_EVENT)
            fine = fail_at(config, event.start_mark, "expected lines of NAME: VALUE", "");
        if (node && depth == 1 && fine) {
            bool is_key = nodes++ % 2 == 0;
            fine = explain_event(config, &event, is_key, seen);
            if (fine && is_key)
                key = find_option(config, (const char *)event.data.scalar.value);
            if (fine && !is_key && key == sought) {
                *mark = event.start_mark;
                end = true;
            }
        }
        if (starts)
            depth++;
        if (type == YAML_MAPPING_END_EVENT || type == YAML_SEQUENCE_END_EVENT)
            depth--;
        yaml_event_delete(&event);
        if (!fine || end)
            return fine;
    }
}

static bool walk(struct config *config, size_t sought, yaml_mark_t *mark)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        check_no_memory(0);
    yaml_parser_set_input_string(&parser, (const unsigned char *)config->text.p, config->text.n);
    bool *seen = xcalloc(config->count, sizeof *seen);
    bool fine = walk_events(config, &parser, seen, sought, mark);
    free(seen);
    yaml_parser_delete(&parser);
    return fine;
}

static bool check_file_value(struct config *config, size_t i)
{
    char where[WHY_MAX];
    yaml_mark_t mark = {0};
    if (check_value(config, &config->options[i], config->given[i].file, "") ||
        !walk(config, i, &mark))
        return config->why[0] == '\0';
    config->why[0] = '\0';
    snprintf(where, sizeof where, "%s:%zu:%zu: %s", config->path, mark.line + 1, mark.column + 1,
             config->options[i].name);
    return check_value(config, &config->options[i], config->given[i].file, where);
}

/* config->text into config->given; the strings belong to the caller of load_text. */
static bool load_text(struct config *config, struct schema *schema, char ***values)
{
    cyaml_data_t *data = NULL;
    const uint8_t *text = (const uint8_t *)(config->text.n > 0 ? config->text.p : "");
    cyaml_err_t err =
        cyaml_load_data(text, config->text.n, &schema->cyaml, &schema->top, &data, NULL);
    *values = data; /* NULL for an empty file, which is fine */
    if (err != CYAML_OK || schema->complained) {
        yaml_mark_t mark;
        bool fine = walk(config, config->count, &mark);
        if (fine && (err == CYAML_ERR_LIBYAML_PARSER || err == CYAML_ERR_LIBYAML_PARSER_INIT))
            check_no_memory(0); /* it is YAML; nothing else is left that libyaml refuses for */
        return fail(config, "%s: not understood: %s", config->path, cyaml_strerror(err));
    }
    bool fine = true;
    for (size_t i = 0; i < config->count && data != NULL && fine; i++) {
        config->given[i].file = (*values)[i];
        fine = (*values)[i] == NULL || check_file_value(config, i);
    }
    return fine;
}

static bool read_file(struct config *config)
{
    int err = file_read(config->path, CONFIG_FILE_MAX, &config->text, NULL);
    if (err == ERR_TOO_LARGE)
        return fail(config, "%s: more than %d bytes; is this the right file?", config->path,
                    CONFIG_FILE_MAX);
    config->later = errno == EIO || errno == EMFILE || errno == ENFILE || errno == ENOMEM;
    return err == 0 || fail(config, "cannot read %s: %s; give another file with --config",
                            config->path, strerror(errno));
}

/* ---- environment and flags ------------------------------------------------------------------ */

static void variable_name(const char *name, char *out, size_t size)
{
    int n = snprintf(out, size, "LOQUAT_%s", name);
    ASSERT(n > 0 && (size_t)n < size);
    for (; *out != '\0'; out++)
        *out = (char)(*out == '-' ? '_' : toupper((unsigned char)*out));
}

/* An empty variable counts as not set: a shell has no handier way to take one back. */
static const char *variable(const char *name)
{
    char full[128];
    variable_name(name, full, sizeof full);
    const char *text = getenv(full);
    return text != NULL && *text != '\0' ? text : NULL;
}

static bool check_env_and_flags(struct config *config)
{
    bool fine = true;
    for (size_t i = 0; i < config->count && fine; i++) {
        const struct config_option *option = &config->options[i];
        char where[128];
        config->given[i].env = variable(option->name);
        if (config->given[i].env != NULL) {
            variable_name(option->name, where, sizeof where);
            fine = check_value(config, option, config->given[i].env, where);
        }
        if (fine && config->given[i].flag != NULL) {
            snprintf(where, sizeof where, "--%s", option->name);
            fine = check_value(config, option, config->given[i].flag, where);
        }
    }
    return fine;
}

static error_t on_option(int key, char *arg, struct argp_state *state)
{
    struct config *config = state->input;
    switch (key) {
    case KEY_CONFIG:
        config->path = arg;
        return 0;
    case KEY_SHOW:
        config->show = true;
        return 0;
    case ARGP_KEY_ARGS: /* positional, moved to the end of argv */
        config->first_arg = state->next;
        return 0;
    case ARGP_KEY_NO_ARGS:
        config->first_arg = state->argc;
        return 0;
    default:
        break;
    }
    for (size_t i = 0; i < config->count; i++) {
        const struct config_option *option = &config->options[i];
        if (key == (option->key != 0 ? option->key : KEY_FIRST + (int)i)) {
            config->given[i].flag = arg != NULL ? arg : "yes";
            return 0;
        }
    }
    return ARGP_ERR_UNKNOWN;
}

/* The help of one option with its default. */
static char *help_text(const struct config_option *option)
{
    struct buf text = {0};
    buf_add_str(&text, option->help);
    const char *string = option->type == CONFIG_STRING ? *(char **)option->value : NULL;
    if (string != NULL && *string != '\0')
        buf_addf(&text, " (default: %s)", string);
    else if (option->type == CONFIG_UINT && *(uint64_t *)option->value != 0) /* 0: not given */
        buf_addf(&text, " (default: %" PRIu64 ")", *(uint64_t *)option->value);
    else if (option->type == CONFIG_FLAG && *(bool *)option->value)
        buf_addf(&text, " (default: yes)");
    buf_add_byte(&text, '\0');
    return text.p;
}

static void parse_flags(struct config *config, int argc, char **argv, const char *program,
                        const char *usage, const char *doc)
{
    static char version[64];
    snprintf(version, sizeof version, "%s %s", program, LOQUAT_VERSION);
    argp_program_version = version;
    argp_err_exit_status = STATUS_USAGE;

    struct argp_option *list = xcalloc(config->count + 3, sizeof *list);
    for (size_t i = 0; i < config->count; i++) {
        const struct config_option *option = &config->options[i];
        bool flag = option->type == CONFIG_FLAG;
        list[i] = (struct argp_option){
            .name = option->name,
            .key = option->key != 0 ? option->key : KEY_FIRST + (int)i,
            .arg = flag ? "yes|no" : option->arg,
            .flags = flag ? OPTION_ARG_OPTIONAL : 0,
            .doc = help_text(option),
        };
    }
    list[config->count] = (struct argp_option){
        "config", KEY_CONFIG, "FILE", 0, "Read settings from this YAML file (NAME: VALUE lines)",
        -1};
    list[config->count + 1] = (struct argp_option){
        "config-show", KEY_SHOW, NULL, 0, "Print the settings in force as YAML and end", -1};

    struct buf text = {0};
    buf_addf(&text,
             "%s\vEvery option may also stand in the --config file under its name, and in the "
             "environment as LOQUAT_NAME, e.g. LOQUAT_CONFIG. Flags are stronger than the "
             "environment, which is stronger than the file.",
             doc);
    buf_add_byte(&text, '\0');
    struct argp argp = {.options = list, .parser = on_option, .args_doc = usage, .doc = text.p};
    argp_parse(&argp, argc, argv, 0, NULL, config);
    buf_close(&text);
    for (size_t i = 0; i < config->count; i++)
        free((char *)list[i].doc);
    free(list);
}

/* ---- all together --------------------------------------------------------------------------- */

static void assign_all(struct config *config)
{
    for (size_t i = 0; i < config->count; i++) {
        const struct given *given = &config->given[i];
        const char *text = given->flag != NULL  ? given->flag
                           : given->env != NULL ? given->env
                                                : given->file;
        if (text != NULL)
            assign(&config->options[i], text);
    }
}

/* Prints the settings in force. The status to end with. */
static int show(const struct config *config, struct schema *schema)
{
    char **values = xcalloc(config->count, sizeof *values);
    char(*numbers)[24] = xcalloc(config->count, sizeof *numbers);
    for (size_t i = 0; i < config->count; i++) {
        const struct config_option *option = &config->options[i];
        values[i] = numbers[i];
        if (option->type == CONFIG_STRING)
            values[i] = *(char **)option->value; /* NULL is left out */
        else if (option->type == CONFIG_UINT)
            snprintf(numbers[i], sizeof numbers[i], "%" PRIu64, *(uint64_t *)option->value);
        else
            snprintf(numbers[i], sizeof numbers[i], "%s", *(bool *)option->value ? "yes" : "no");
    }
    char *text = NULL;
    size_t n = 0;
    cyaml_err_t err = cyaml_save_data(&text, &n, &schema->cyaml, &schema->top, values, 0);
    bool fine = err == CYAML_OK && fwrite(text, 1, n, stdout) == n && fflush(stdout) == 0;
    if (!fine)
        fprintf(stderr, "cannot print the settings: %s\n",
                err == CYAML_OK ? strerror(errno) : cyaml_strerror(err));
    free(text);
    free(numbers);
    free(values);
    return fine ? 0 : 1;
}

static void config_init(struct config *config, const struct config_option *options)
{
    *config = (struct config){.options = options};
    while (options[config->count].name != NULL)
        config->count++;
    config->given = xcalloc(config->count, sizeof *config->given);
}

static void config_close(struct config *config, struct schema *schema, char **values)
{
    cyaml_free(&schema->cyaml, &schema->top, values, 0);
    free(schema->fields);
    free(config->given);
    buf_close(&config->text);
}

int config_load(int argc, char **argv, const char *program, const char *usage, const char *doc,
                const struct config_option *options)
{
    struct config config;
    config_init(&config, options);
    struct schema schema;
    schema_init(&schema, &config);
    char **values = NULL;

    parse_flags(&config, argc, argv, program, usage, doc);
    if (config.path == NULL)
        config.path = variable("config");
    bool fine = config.path == NULL || (read_file(&config) && load_text(&config, &schema, &values));
    if (!fine || !check_env_and_flags(&config)) {
        fprintf(stderr, "%s: %s\n", program, config.why);
        exit(config.later ? STATUS_FAILED : STATUS_USAGE);
    }
    assign_all(&config);
    if (config.show)
        exit(show(&config, &schema));
    config_close(&config, &schema, values);
    return config.first_arg;
}

int config_read(const char *path, struct span yaml, const struct config_option *options, char *why,
                size_t size)
{
    struct config config;
    config_init(&config, options);
    struct schema schema;
    schema_init(&schema, &config);
    char **values = NULL;

    config.path = path;
    buf_add_span(&config.text, yaml);
    bool fine = load_text(&config, &schema, &values);
    if (fine)
        assign_all(&config);
    else
        snprintf(why, size, "%s", config.why);
    config_close(&config, &schema, values);
    return fine ? 0 : ERR_BAD_REQUEST;
}
