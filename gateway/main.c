/* gateway/main.c: loquat-gateway: settings, the node inside (--embed), loops, signals. */
#include <curl/curl.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "gateway/echo.h"
#include "gateway/gate.h"
#include "gateway/hooks.h"
#include "gateway/kafka.h"
#include "gateway/listen.h"
#include "gateway/options.h"
#include "gateway/secure.h"
#include "replication/node.h"
#include "store/base/check.h"
#include "store/base/config.h"
#include "store/base/file.h"
#include "store/base/log.h"
#include "store/base/program.h"
#include "store/base/secret.h"

enum { SPARE_FILES = 256 };

/* ---- settings ---- */

static void setup_log(void)
{
    const char *wrong = log_setup_words("loquat-gateway", options.log_level, options.log_format);
    if (wrong != NULL)
        program_usage(wrong, " is not one of those that --help lists");
}

/* The page beside the program: as built, as installed. */
static struct page *find_page(void)
{
    static const char *const PLACES[] = {"../gateway/web/dist", "../share/loquat/web",
                                         "../../gateway/web/dist"};
    char exe[PATH_MAX], dir[PATH_MAX + 64], why[512] = "";
    if (options.web != NULL) {
        struct page *page = page_load(options.web, why, sizeof why);
        if (page == NULL)
            program_fail(why);
        return page;
    }
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0)
        return NULL;
    exe[n] = '\0';
    char *slash = strrchr(exe, '/');
    if (slash != NULL)
        *slash = '\0';
    for (size_t i = 0; i < sizeof PLACES / sizeof *PLACES; i++) {
        snprintf(dir, sizeof dir, "%s/%s", exe, PLACES[i]);
        struct page *page = page_load(dir, why, sizeof why);
        if (page != NULL)
            return page;
    }
    log_warn("the web page is not built: clients are served without it",
             {"do", log_str("make web, or name its folder with --web")});
    return NULL;
}

/* How many connections the limit of open files leaves room for. */
static uint64_t raise_files(void)
{
    uint64_t limit = file_limit_raise();
    return limit > 2ul * SPARE_FILES ? limit - SPARE_FILES : limit / 2;
}

static struct tls *cluster_tls; /* of links to nodes; NULL: they are plain */

static void setup_cluster_tls(void)
{
    char why[1024] = "";
    int given = (options.cluster_tls_cert != NULL) + (options.cluster_tls_key != NULL) +
                (options.cluster_tls_ca != NULL);
    if (given == 0)
        return;
    if (given != 3 || options.nodes == NULL)
        program_usage("TLS of links to --nodes takes a certificate, its key and its CA: ",
                      "give --cluster-tls-cert, --cluster-tls-key and --cluster-tls-ca");
    cluster_tls = tls_link_new(options.cluster_tls_cert, options.cluster_tls_key,
                               options.cluster_tls_ca, why, sizeof why);
    if (cluster_tls == NULL)
        program_fail(why);
    tls_link_metrics();
}

static void find_nodes(struct settings *settings)
{
    static struct dial_target targets[CLUSTER_NODES_MAX];
    static struct buf secret; /* as long as the process lives */
    char why[512] = "";
    if (options.cluster_secret_file == NULL)
        program_usage("--nodes: ", "the node wants proof that this gateway belongs to it; give "
                                   "--cluster-secret-file");
    if (secret_load(options.cluster_secret_file, &secret, why, sizeof why) != 0)
        program_fail(why);
    char *rest = NULL;
    for (char *one = strtok_r(options.nodes, ",", &rest); one != NULL;
         one = strtok_r(NULL, ",", &rest)) {
        struct dial_target *target = &targets[settings->node_count];
        if (settings->node_count++ == CLUSTER_NODES_MAX)
            program_usage("--nodes: ", "more than 64 are not possible");
        if (strlen(one) >= sizeof target->name || !address_parse(one, &target->address))
            program_usage("--nodes: ", "write HOST:PORT,…, such as 127.0.0.1:7101");
        target->role = HANDSHAKE_GATEWAY;
        target->secret = buf_span(&secret);
        target->tls = cluster_tls;
        snprintf(target->name, sizeof target->name, "%s", one);
    }
    if (settings->node_count == 0)
        program_usage("--nodes: ", "write HOST:PORT,…, such as 127.0.0.1:7101");
    settings->nodes = targets;
}

static bool is_on(const char *value, const char *option)
{
    if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0)
        program_usage(option, "write on or off");
    return value[1] == 'n';
}

static void setup_webhooks(struct settings *settings)
{
    char why[512] = "";
    is_on(options.webhooks, "--webhooks: ");
    if (options.webhook_allow != NULL &&
        !hook_rules_parse(&settings->hook_rules, options.webhook_allow, why, sizeof why))
        program_usage("--webhook-allow: ", why);
    if (options.webhook_ca != NULL && access(options.webhook_ca, R_OK) != 0)
        program_usage("--webhook-ca: can't be read: ", options.webhook_ca);
    settings->hook_ca = options.webhook_ca;
}

static void setup_tls(struct settings *settings)
{
    char why[1024] = "";
    if (options.tls_cert == NULL)
        return;
    settings->tls = tls_new(options.tls_cert, options.tls_key, why, sizeof why);
    if (settings->tls == NULL)
        program_fail(why);
    secure_metrics();
}

/* A node inside has threads of its own: a loop for each core as well, and they all wait. */
static uint64_t default_loops(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    long loops = options.embed != NULL ? cores / 2 : cores;
    return loops < 1 ? 1 : loops > LOOPS_MAX ? LOOPS_MAX : (uint64_t)loops;
}

static void setup(struct settings *settings, uint64_t room)
{
    char why[512] = "";
    if ((options.embed == NULL) == (options.nodes == NULL))
        program_usage("where are the logs? ", "Give one of --embed DIR and --nodes HOST:PORT,…");
    setup_cluster_tls();
    if (options.nodes != NULL)
        find_nodes(settings);
    if ((options.secret_file == NULL) == (options.jwks_file == NULL))
        program_usage("who may connect? ", "Give one of --auth-secret-file and --auth-jwks-file");
    if (options.origins != NULL &&
        !origins_parse(&settings->origins, options.origins, why, sizeof why))
        program_usage("--origin: ", why);
    if ((options.tls_cert == NULL) != (options.tls_key == NULL))
        program_usage("TLS takes a certificate and its key: ",
                      "give both --tls-cert and --tls-key");
    settings->auth = auth_new(options.secret_file, options.jwks_file, why, sizeof why);
    if (settings->auth == NULL)
        program_fail(why);
    setup_tls(settings);
    setup_webhooks(settings);
    if (options.loops == 0)
        options.loops = default_loops();
    limits_init(&settings->limits, options.rate, options.burst, options.user_conns);
    limits_init(&settings->floods, options.conv_rate, options.conv_burst, 0);
    limits_init(&settings->crowds, options.conv_rate_all, 10 * options.conv_rate_all, 0);
    settings->io_uring = is_on(options.io_uring, "--io-uring: ");
    settings->page = find_page();
    settings->frame_max = options.frame_max;
    settings->group_max = options.group_max;
    uint64_t conns = options.conns != 0 && options.conns < room ? options.conns : room;
    settings->conns_max = conns / options.loops + 1;
    settings->metrics_public = options.admin_listen == NULL;
}

/* ---- loops ---- */

struct listeners {
    int fds[LOOPS_MAX], admin_fd, kafka_fd; /* -1: it is not asked for */
    char actual[LISTEN_ADDRESS_MAX];
    struct address advertise; /* to clients of Kafka */
};

static int must_listen(const char *option, const char *address, int share,
                       char actual[LISTEN_ADDRESS_MAX])
{
    char why[512] = "";
    int wrong = 0, fd = listen_on(address, share, actual, why, sizeof why, &wrong);
    if (fd < 0)
        wrong ? program_usage(option, why) : program_fail(why);
    return fd;
}

static void open_kafka(struct listeners *on)
{
    char actual[LISTEN_ADDRESS_MAX] = "";
    struct address *advertise = &on->advertise;
    on->kafka_fd = -1;
    if (options.kafka == NULL && options.kafka_advertise != NULL)
        program_usage("--kafka-advertise: ", "give --kafka, too");
    if (options.kafka == NULL)
        return;
    on->kafka_fd = must_listen("--kafka: ", options.kafka, 0, actual);
    const char *told = options.kafka_advertise != NULL ? options.kafka_advertise : actual;
    if (!address_parse(told, advertise) || strcmp(advertise->port, "0") == 0)
        program_usage("--kafka-advertise: ", "write HOST:PORT, such as 192.0.2.1:9092");
    if (strcmp(advertise->host, "0.0.0.0") == 0 || strcmp(advertise->host, "::") == 0)
        program_usage("--kafka listens everywhere: ",
                      "say with --kafka-advertise where clients are to connect");
    kafka_metrics();
    log_info("serving clients of Kafka", {"listen", log_str(actual)}, {"advertise", log_str(told)});
}

static void open_listeners(struct listeners *on)
{
    char admin[LISTEN_ADDRESS_MAX] = "", other[LISTEN_ADDRESS_MAX] = "";
    for (uint64_t i = 0; i < options.loops; i++)
        on->fds[i] = must_listen("--listen: ", i == 0 ? options.listen : on->actual,
                                 options.loops > 1, i == 0 ? on->actual : other);
    on->admin_fd = -1;
    if (options.admin_listen != NULL) {
        on->admin_fd = must_listen("--admin-listen: ", options.admin_listen, 0, admin);
        log_info("serving operators", {"listen", log_str(admin)});
    }
    open_kafka(on);
}

static int connect_node(void *arg)
{
    return node_connect(arg);
}

static void reload_tls(struct tls *tls, const char *with)
{
    char why[1024] = "";
    if (tls == NULL)
        return;
    if (tls_reload(tls, why, sizeof why) == 0)
        log_info("the certificate was read again", {"with", log_str(with)});
    else
        log_error("the certificate could not be read again; the one before stays",
                  {"with", log_str(with)}, {"why", log_str(why)});
}

static void reload(struct settings *settings)
{
    char why[1024] = "";
    if (auth_reload(settings->auth, why, sizeof why) == 0)
        log_info("keys were read again");
    else
        log_error("keys could not be read again; the ones before stay", {"why", log_str(why)});
    reload_tls(settings->tls, "clients");
    reload_tls(cluster_tls, "nodes");
}

static bool all_ready(struct gate *const *gates)
{
    for (uint64_t i = 0; i < options.loops; i++)
        if (!gate_ready(gates[i]))
            return false;
    return true;
}

/* Until a signal ends it; that may be before there is a node. */
static void serve(struct settings *settings, struct gate *const *gates, const char *actual,
                  const sigset_t *signals)
{
    static const struct timespec LOOK = {.tv_nsec = 5000000};
    bool ready = false;
    int sig = 0;
    do {
        sig = ready ? sigwaitinfo(signals, NULL) : sigtimedwait(signals, NULL, &LOOK);
        if (sig == SIGHUP)
            reload(settings);
        if (!ready && all_ready(gates)) {
            ready = true;
            log_info("serving", {"listen", log_str(actual)},
                     {"loops", log_int((int64_t)options.loops)},
                     {"tls", log_str(settings->tls != NULL ? "yes" : "no")});
            program_ready(actual);
        }
    } while (sig < 0 || sig == SIGHUP);
    log_info("draining", {"signal", log_int(sig)});
}

static void run_loops(struct settings *settings, const struct listeners *on,
                      const sigset_t *signals)
{
    struct gate *gates[LOOPS_MAX] = {0};
    for (uint64_t i = 0; i < options.loops; i++)
        gates[i] = gate_new(settings, (int)i, on->fds[i], i == 0 ? on->admin_fd : -1);
    for (uint64_t i = 0; i < options.loops; i++)
        gate_start(gates[i]);
    bool sends = strcmp(options.webhooks, "on") == 0;
    struct hooks *hooks = sends ? hooks_start(settings) : NULL;
    struct kafka *kafka =
        on->kafka_fd >= 0 ? kafka_start(settings, on->kafka_fd, &on->advertise) : NULL;
    serve(settings, gates, on->actual, signals);
    for (uint64_t i = 0; i < options.loops; i++)
        gate_drain(gates[i]);
    if (hooks != NULL)
        hooks_stop(hooks);
    if (kafka != NULL)
        kafka_stop(kafka);
    for (uint64_t i = 0; i < options.loops; i++)
        gate_join(gates[i]);
}

static int run_echo(void)
{
    char actual[LISTEN_ADDRESS_MAX];
    int fd = must_listen("--listen: ", options.listen, 0, actual);
    echo_serve(fd, actual);
    log_info("ended");
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    static struct settings settings;
    static struct listeners listeners;
    char why[1024] = "";
    sigset_t signals;
    if (!program_begin("loquat-gateway", false))
        program_fail("standard input, output and error are not to be had");
    options.disk_reserve_mb = NODE_DISK_RESERVE_DEFAULT >> 20;
    int first = config_load(argc, argv, "loquat-gateway", "--embed DIR | --nodes HOST:PORT,...",
                            "Serves chat clients over WebSocket and HTTP, from logs on disk.",
                            options_table);
    if (first < argc)
        program_usage("it takes no arguments, but got ", argv[first]);
    setup_log();
    if (options.ws_echo)
        return run_echo();
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* threads inherit it: one waits for them */
    (void)signal(SIGPIPE, SIG_IGN);
    setup(&settings, raise_files());
    open_listeners(&listeners);
    struct node_config config = {.dir = options.embed,
                                 .partitions = (uint32_t)options.partitions,
                                 .disk_reserve = options.disk_reserve_mb << 20};
    struct node *node = NULL;
    gate_metrics();
    hooks_metrics();
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
        program_fail("libcurl can't be used");
    if (options.embed != NULL && node_start(&config, &node, why, sizeof why) != 0)
        program_fail(why);
    settings.connect = connect_node;
    settings.connect_arg = node;
    run_loops(&settings, &listeners, &signals);
    if (node != NULL)
        node_stop(node);
    auth_free(settings.auth);
    tls_free(settings.tls);
    tls_free(cluster_tls);
    limits_close(&settings.limits);
    limits_close(&settings.floods);
    limits_close(&settings.crowds);
    page_free(settings.page);
    log_info("ended");
    return EXIT_SUCCESS;
}
