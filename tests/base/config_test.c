#include "store/base/config.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/base/err.h"

static char *listen_at, *secret;
static uint64_t partitions, limit;
static bool demo, cache;
static const struct config_option OPTIONS[] = {
    {"listen", 'l', CONFIG_STRING, "HOST:PORT", "Where to serve", &listen_at, 1, 40},
    {"auth-secret-file", 0, CONFIG_STRING, "FILE", "Secret of tokens", &secret, 0, 0},
    {"partitions", 'p', CONFIG_UINT, "N", "Partitions", &partitions, 1, 1024},
    {"limit", 0, CONFIG_UINT, "N", "Without a bound", &limit, 0, 0},
    {"demo", 'd', CONFIG_FLAG, NULL, "With demo users", &demo, 0, 0},
    {"cache", 0, CONFIG_FLAG, NULL, "Keep a cache", &cache, 0, 0},
    {0},
};

static char why[512], path[] = "/tmp/loquat-config-test-XXXXXX";

static void setup(void)
{
    static char default_listen[] = "127.0.0.1:8080";
    listen_at = default_listen;
    secret = NULL;
    partitions = 16;
    limit = 5;
    demo = false;
    cache = true;
    close(mkstemp(path));
}

static void teardown(void)
{
    unlink(path);
}

TestSuite(config, .init = setup, .fini = teardown);

static int file(const char *yaml)
{
    why[0] = '\0';
    return config_read("x.yaml", span_str(yaml), OPTIONS, why, sizeof why);
}

/* The whole thing with flags; ends with NULL. */
static int flags(char *first, ...)
{
    static char program[] = "loquat-test";
    char *argv[16] = {program, first};
    int argc = first != NULL ? 2 : 1;
    va_list more;
    va_start(more, first);
    while (first != NULL && (argv[argc] = va_arg(more, char *)) != NULL)
        argc++;
    va_end(more);
    int rest = config_load(argc, argv, "loquat-test", "[FILE…]", "A test.", OPTIONS);
    return argc - rest;
}

static char *config_file(const char *yaml)
{
    static char flag[64];
    FILE *out = fopen(path, "w");
    fputs(yaml, out);
    cr_assert(eq(int, fclose(out), 0));
    snprintf(flag, sizeof flag, "--config=%s", path);
    return flag;
}

/* A file sets what it names and leaves the rest at its default. */
Test(config, file_sets_values)
{
    cr_assert(eq(int, file("# comment\nlisten: '[::1]:9000'\npartitions: 32\ndemo: yes\n"), 0));
    cr_assert(eq(str, listen_at, (char *)"[::1]:9000"));
    cr_assert(eq(u64, partitions, 32));
    cr_assert(demo);
    cr_assert(cache);
    cr_assert(eq(u64, limit, 5));
}

/* An empty file, or one of comments alone, is a fine file. */
Test(config, empty_file_is_fine)
{
    cr_assert(eq(int, file(""), 0));
    cr_assert(eq(int, file("# nothing\n\n"), 0));
    cr_assert(eq(int, file("{}"), 0));
    cr_assert(eq(u64, partitions, 16));
}

/* What is refused is named with its line and column, and nothing of the file is taken. */
static void refused(const char *yaml, const char *message)
{
    cr_assert(eq(int, file(yaml), ERR_BAD_REQUEST), "%s", yaml);
    cr_assert(eq(str, why, (char *)message));
    cr_assert(eq(str, listen_at, (char *)"127.0.0.1:8080"));
    cr_assert(eq(u64, partitions, 16));
}

Test(config, unknown_setting_is_refused)
{
    refused("listen: a\n\n  \npartitons: 2\n",
            "x.yaml:4:1: unknown setting (--help lists them): partitons");
    refused("{listen: a, port: 1}", "x.yaml:1:13: unknown setting (--help lists them): port");
}

Test(config, setting_given_twice_is_refused)
{
    refused("listen: a\ndemo: no\nlisten: b\n", "x.yaml:3:1: given twice; keep one: listen");
}

Test(config, number_out_of_range_is_refused)
{
    const char *rest = "; give a whole number from 1 to 1024";
    static const char *const BAD[] = {"0",    "1025", "-1",  "1.5",
                                      "0x10", "abc",  "1 2", "99999999999999999999999"};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        char yaml[100], message[200];
        snprintf(yaml, sizeof yaml, "listen: a\npartitions:   %s\n", BAD[i]);
        snprintf(message, sizeof message, "x.yaml:2:15: partitions: \"%s\" won't do%s", BAD[i],
                 rest);
        refused(yaml, message);
    }
}

Test(config, bounds_are_inclusive)
{
    cr_assert(eq(int, file("partitions: 1"), 0));
    cr_assert(eq(int, file("partitions: 1024"), 0));
    cr_assert(eq(int, file("limit: 18446744073709551615"), 0));
    cr_assert(eq(u64, limit, UINT64_MAX));
    cr_assert(eq(int, file("partitions: 010"), 0)); /* not octal */
    cr_assert(eq(u64, partitions, 10));
}

Test(config, string_out_of_bounds_is_refused)
{
    refused("listen: ''\n", "x.yaml:1:9: listen: \"\" is too short; the least is 1 bytes");
    refused("listen: 12345678901234567890123456789012345678901\n",
            "x.yaml:1:9: listen: 41 bytes are too long; the most is 40");
}

Test(config, flag_is_yes_or_no)
{
    refused("demo: maybe", "x.yaml:1:7: demo: \"maybe\" is neither yes nor no");
    cr_assert(eq(int, file("demo: On\ncache: FALSE"), 0));
    cr_assert(demo);
    cr_assert(not(cache));
}

Test(config, other_shapes_are_refused)
{
    refused("listen: [a, b]", "x.yaml:1:9: a setting has one value, not a list");
    refused("listen: {a: b}", "x.yaml:1:9: a setting has one value, not a list");
    refused("- listen", "x.yaml:1:1: expected lines of NAME: VALUE");
    refused("listen", "x.yaml:1:1: expected lines of NAME: VALUE");
    refused("listen: a\n---\nlisten: b\n", "x.yaml:2:1: a second document; keep one");
    refused("listen: \"a\n", "x.yaml:2:1: not YAML: found unexpected end of stream");
    refused("? [a]\n: b", "x.yaml:1:3: a setting's name must be plain text");
}

/* An alias stands for what it names. */
Test(config, alias_is_a_value)
{
    cr_assert(eq(int, file("listen: &x 77\npartitions: *x\n"), 0));
    cr_assert(eq(u64, partitions, 77));
    partitions = 16;
    cr_assert(eq(int, file("listen: &x 7777\npartitions: *x\n"), ERR_BAD_REQUEST));
    cr_assert(eq(int, strncmp(why, "x.yaml:2:13: partitions: ", 25), 0), "%s", why);
}

/* Flags are stronger than the environment, which is stronger than the file. */
Test(config, flags_beat_environment_beats_file)
{
    setenv("LOQUAT_PARTITIONS", "3", 1);
    setenv("LOQUAT_LIMIT", "30", 1);
    char *from_file = config_file("partitions: 2\nlimit: 20\nlisten: file\n");
    cr_assert(eq(int, flags(from_file, "-p", "4", NULL), 0));
    cr_assert(eq(u64, partitions, 4));
    cr_assert(eq(u64, limit, 30));
    cr_assert(eq(str, listen_at, (char *)"file"));
}

/* The file itself may be named by the environment; an empty variable is none. */
Test(config, environment_names_the_file)
{
    config_file("partitions: 2\n");
    setenv("LOQUAT_CONFIG", path, 1);
    setenv("LOQUAT_AUTH_SECRET_FILE", "/x/secret", 1);
    setenv("LOQUAT_LISTEN", "", 1);
    flags(NULL);
    cr_assert(eq(u64, partitions, 2));
    cr_assert(eq(str, secret, (char *)"/x/secret"));
    cr_assert(eq(str, listen_at, (char *)"127.0.0.1:8080"));
}

/* A flag can be taken back: what is on in the file is off by --name=no. */
Test(config, flag_without_a_value_is_yes)
{
    flags(config_file("demo: no\ncache: yes"), "-d", "--cache=no", NULL);
    cr_assert(demo);
    cr_assert(not(cache));
}

/* Positional arguments are left, at the end, whatever their place. */
Test(config, arguments_are_left_at_the_end)
{
    char send[] = "send", p[] = "-p", nine[] = "9", hello[] = "hello", dashes[] = "--",
         dash[] = "-x", program[] = "loquat-test";
    char *argv[] = {program, send, p, nine, hello, dashes, dash, NULL};
    int first = config_load(7, argv, "loquat-test", "", "", OPTIONS);
    cr_assert(eq(u64, partitions, 9));
    cr_assert(eq(int, first, 4));
    cr_assert(eq(str, argv[4], (char *)"send"));
    cr_assert(eq(str, argv[5], (char *)"hello"));
    cr_assert(eq(str, argv[6], (char *)"-x"));
    cr_assert(eq(int, flags(NULL), 0));
}

/* Leaves before the leak checker runs: in a fork of a process with threads it only complains. */
static void leave(int status, void *arg)
{
    (void)arg;
    _exit(fflush(stdout) == 0 ? status : 98);
}

/* The same in a child process, for what ends the process. */
static char said[8192];
static int status_of(char *first, char *second)
{
    int out = memfd_create("output", 0), status = 0;
    pid_t child = fork();
    if (child == 0) {
        dup2(out, STDOUT_FILENO);
        dup2(out, STDERR_FILENO);
        on_exit(leave, NULL);
        flags(first, second, NULL);
        _exit(99); /* it came back */
    }
    cr_assert(eq(int, waitpid(child, &status, 0), child));
    ssize_t n = pread(out, said, sizeof said - 1, 0);
    said[n > 0 ? n : 0] = '\0';
    close(out);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Wrong use ends with status 2 and says what, where and what would do. */
Test(config, bad_flag_value_ends_with_2)
{
    cr_assert(eq(int, status_of("--partitions=0", NULL), 2));
    cr_assert(eq(str, said,
                 (char *)"loquat-test: --partitions: \"0\" won't do; give a whole number from 1 to "
                         "1024\n"));
}
Test(config, unknown_flag_ends_with_2)
{
    cr_assert(eq(int, status_of("--foo", NULL), 2));
    cr_assert(ne(ptr, strstr(said, "unrecognized option '--foo'"), NULL), "%s", said);
}
Test(config, bad_variable_ends_with_2)
{
    setenv("LOQUAT_DEMO", "perhaps", 1);
    cr_assert(eq(int, status_of(NULL, NULL), 2));
    cr_assert(
        eq(str, said, (char *)"loquat-test: LOQUAT_DEMO: \"perhaps\" is neither yes nor no\n"));
}
Test(config, bad_file_ends_with_2)
{
    cr_assert(eq(int, status_of(config_file("nonsense: 1"), NULL), 2));
    cr_assert(ne(ptr, strstr(said, ":1:1: unknown setting"), NULL), "%s", said);
}
Test(config, overruled_bad_file_still_ends_with_2)
{
    cr_assert(eq(int, status_of(config_file("partitions: x"), "-p3"), 2));
    cr_assert(ne(ptr, strstr(said, ":1:13: partitions: \"x\""), NULL), "%s", said);
}
Test(config, missing_file_ends_with_2)
{
    cr_assert(eq(int, status_of("--config=/nonexistent/x.yaml", NULL), 2));
    cr_assert(eq(str, said,
                 (char *)"loquat-test: cannot read /nonexistent/x.yaml: No such file or directory; "
                         "give another file with --config\n"));
}
Test(config, huge_file_ends_with_2)
{
    char *flag = config_file("");
    cr_assert(eq(int, truncate(path, CONFIG_FILE_MAX + 1), 0));
    cr_assert(eq(int, status_of(flag, NULL), 2));
    cr_assert(ne(ptr, strstr(said, "is this the right file?"), NULL), "%s", said);
}

/* --help lists every option with its default, and ends with 0; so does --version. */
Test(config, help_and_version_end_with_0)
{
    cr_assert(eq(int, status_of("--help", NULL), 0));
    for (const struct config_option *option = OPTIONS; option->name != NULL; option++)
        cr_assert(ne(ptr, strstr(said, option->name), NULL), "%s", option->name);
    cr_assert(ne(ptr, strstr(said, "(default: 127.0.0.1:8080)"), NULL), "%s", said);
    cr_assert(eq(int, status_of("--version", NULL), 0));
    cr_assert(eq(str, said, (char *)"loquat-test " LOQUAT_VERSION "\n"));
}

/* --config-show prints the settings in force, as a file that can be given back. */
Test(config, show_prints_settings_in_force)
{
    setenv("LOQUAT_PARTITIONS", "9", 1);
    cr_assert(eq(int, status_of(config_file("listen: '[::1]:1'\ncache: off"), "--config-show"), 0));
    cr_assert(
        eq(str, said, (char *)"listen: '[::1]:1'\npartitions: 9\nlimit: 5\ndemo: no\ncache: no\n"));
    cr_assert(eq(int, file(said), 0));
}
