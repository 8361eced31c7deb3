/* store/base/config.h: settings of a program from flags, environment and file, in that order of
 * strength; the only includer of cyaml. One table describes an option; from it come the argp
 * options, LOQUAT_NAME, the YAML key and `--help`.
 * Errors are printed to standard error with where they are (flag, variable, file:line:column) and
 * end the program with status 2: a server does not start with a setting that it does not know. With
 * status 1 when the file could not be read for now: no descriptor left, an error of the disk. */
#ifndef LOQUAT_BASE_CONFIG_H
#define LOQUAT_BASE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/span.h"

enum { CONFIG_FILE_MAX = 1 << 20 }; /* bytes */
enum config_type { CONFIG_STRING, CONFIG_UINT, CONFIG_FLAG };

struct config_option {
    const char *name; /* "auth-secret-file"; variable LOQUAT_AUTH_SECRET_FILE; YAML the same name */
    char key;         /* short flag or 0 */
    enum config_type type;
    const char *arg; /* for --help: "FILE"; NULL for flags, which take [=yes|no] */
    const char *help;
    void *value; /* char ** (ours, never freed), uint64_t * or bool *; holds the default before */
    uint64_t min, max; /* of the number, or of the string's bytes; max 0: no bound */
};

/* Fills the values. `options` ends with name == NULL. Every program has --config, --help, --usage,
 * --version and `--config-show` (prints the settings in force as YAML; secrets are file names).
 * Positional arguments are left: returns the index in argv of the first; they stand at the end.
 * `usage`: e.g. "[--embed DIR | --nodes HOST:PORT,…]"; `doc`: what the program is, a paragraph. */
int config_load(int argc, char **argv, const char *program, const char *usage, const char *doc,
                const struct config_option *options);

/* A file's text alone, for tests: 0, or ERR_BAD_REQUEST with `why` ("path:line:column: …"), the
 * values untouched then. */
int config_read(const char *path, struct span yaml, const struct config_option *options, char *why,
                size_t size);

#endif
