/* replication/main.c: loquat-node: settings, a node that gateways and other nodes call on over TCP,
 * signals. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/listen.h"
#include "replication/admin.h"
#include "replication/cluster_command.h"
#include "replication/cluster_plan.h"
#include "replication/node.h"
#include "replication/roster.h"
#include "store/base/check.h"
#include "store/base/config.h"
#include "store/base/file.h"
#include "store/base/ids.h"
#include "store/base/log.h"
#include "store/base/output.h"
#include "store/base/program.h"
#include "store/base/secret.h"
#include "store/base/tls.h"
#include "store/client/progress.h"

static struct {
    char *data, *listen, *admin_listen, *cluster, *secret_file, *log_level, *log_format;
    uint64_t id, partitions, replicas, disk_reserve_mb;
    bool json;
    char *join;
    char *tls_cert, *tls_key, *tls_ca;
} options = {
    .log_level = "info",
    .log_format = "auto",
    .id = 1,
    .replicas = PLAN_REPLICAS_DEFAULT,
    .disk_reserve_mb = NODE_DISK_RESERVE_DEFAULT >> 20,
};

static const struct config_option TABLE[] = {
    {.name = "data",
     .key = 'd',
     .type = CONFIG_STRING,
     .arg = "DIR",
     .help = "Keep the logs in DIR, which is made when it is not there",
     .value = &options.data},
    {.name = "listen",
     .key = 'l',
     .type = CONFIG_STRING,
     .arg = "HOST:PORT",
     .help = "Where gateways and other nodes connect; port 0: the system chooses. Without it the "
             "address that --cluster gives this node, or 127.0.0.1:7101",
     .value = &options.listen},
    {.name = "admin-listen",
     .type = CONFIG_STRING,
     .arg = "HOST:PORT",
     .help = "Where /metrics, /healthz and /readyz are served to operators; without it nowhere",
     .value = &options.admin_listen},
    {.name = "cluster-secret-file",
     .type = CONFIG_STRING,
     .arg = "FILE",
     .help =
         "Secret of the cluster, 32 bytes or more: with it gateways and nodes prove to each other "
         "that they belong together",
     .value = &options.secret_file},
    {.name = "tls-cert",
     .type = CONFIG_STRING,
     .arg = "FILE",
     .help =
         "Links to and from this node are TLS: certificate and chain, PEM; read again on SIGHUP",
     .value = &options.tls_cert},
    {.name = "tls-key",
     .type = CONFIG_STRING,
     .arg = "FILE",
     .help = "The certificate's key, PEM, readable by its owner only; read again on SIGHUP",
     .value = &options.tls_key},
    {.name = "tls-ca",
     .type = CONFIG_STRING,
     .arg = "FILE",
     .help = "Who signs the certificates of all nodes and gateways, PEM; read again on SIGHUP",
     .value = &options.tls_ca},
    {.name = "id",
     .type = CONFIG_UINT,
     .arg = "N",
     .help = "Number of this node in the cluster",
     .value = &options.id,
     .min = 1,
     .max = UINT32_MAX},
    {.name = "cluster",
     .type = CONFIG_STRING,
     .arg = "ID=HOST:PORT,...",
     .help = "The nodes of the cluster, with this one, the same on each of them; without it this "
             "node is alone",
     .value = &options.cluster},
    {.name = "join",
     .type = CONFIG_STRING,
     .arg = "CLUSTER",
     .help = "A new DIR becomes part of this cluster, which `cluster add` names, instead of "
             "beginning one",
     .value = &options.join,
     .min = ROSTER_ID_SIZE,
     .max = ROSTER_ID_SIZE},
    {.name = "partitions",
     .type = CONFIG_UINT,
     .arg = "N",
     .help = "Partitions of a new DIR (16); of an old one: refuse to start if it has others",
     .value = &options.partitions,
     .max = PARTITIONS_MAX},
    {.name = "replicas",
     .type = CONFIG_UINT,
     .arg = "N",
     .help = "Of `cluster add`, `remove` and `spread`: on how many nodes each partition is kept",
     .value = &options.replicas,
     .min = 1,
     .max = PLAN_REPLICAS_MAX},
    {.name = "disk-reserve",
     .type = CONFIG_UINT,
     .arg = "MIB",
     .help = "Refuse writes when less is free on the disk of DIR",
     .value = &options.disk_reserve_mb,
     .min = 1,
     .max = 1 << 20},
    {.name = "json",
     .type = CONFIG_FLAG,
     .help = "Of `cluster status`: print one JSON object",
     .value = &options.json},
    {.name = "log-level",
     .type = CONFIG_STRING,
     .arg = "LEVEL",
     .help = "debug, info, warn or error",
     .value = &options.log_level},
    {.name = "log-format",
     .type = CONFIG_STRING,
     .arg = "FORMAT",
     .help = "json, text, or auto: text on a terminal",
     .value = &options.log_format},
    {0},
};

static struct roster roster;

static void check_cluster(bool runs)
{
    char why[512] = "";
    if (options.cluster == NULL && options.id != 1)
        program_usage("--id: ", "which other nodes are there? Give --cluster");
    if (options.cluster == NULL)
        return;
    if (!roster_parse(options.cluster, &roster, why, sizeof why))
        program_usage("--cluster: ", why);
    if (runs && roster_find(&roster, options.id) == NULL)
        program_usage("--cluster: ", "this node (--id) is not in it");
    if (roster.count == 1 && options.id != 1)
        program_usage("--id: ", "a node that is alone has number 1");
}

/* As a copy: it is an option like those that were given. */
static void choose_listen(void)
{
    const struct roster_node *self = roster_find(&roster, options.id);
    if (options.listen == NULL)
        options.listen = strdup(self != NULL ? self->name : "127.0.0.1:7101");
    ASSERT(options.listen != NULL);
}

static void load_secret(struct buf *secret)
{
    char why[512] = "";
    if (secret_load(options.secret_file, secret, why, sizeof why) != 0)
        program_fail(why);
}

/* ---- TLS of links ---- */

static struct tls *tls; /* NULL: they are plain */

static void setup_tls(void)
{
    char why[1024] = "";
    int given = (options.tls_cert != NULL) + (options.tls_key != NULL) + (options.tls_ca != NULL);
    if (given == 0)
        return;
    if (given != 3)
        program_usage("TLS of links takes a certificate, its key and its CA: ",
                      "give --tls-cert, --tls-key and --tls-ca");
    tls = tls_link_new(options.tls_cert, options.tls_key, options.tls_ca, why, sizeof why);
    if (tls == NULL)
        program_fail(why);
    tls_link_metrics();
}

static void reload(void)
{
    char why[1024] = "";
    if (tls == NULL)
        return;
    if (tls_reload(tls, why, sizeof why) == 0)
        log_info("the certificate was read again");
    else
        log_error("the certificate could not be read again; the one before stays",
                  {"why", log_str(why)});
}

/* ---- loquat-node cluster … ---- */

static void show(uint64_t count, const char *things, double share)
{
    static struct progress progress;
    static uint64_t most; /* what was where it should be may be between two leaders */
    static bool begun;
    if (!begun)
        progress_begin(&progress);
    begun = true;
    most = count > most ? count : most;
    progress_show(&progress, most, things, share);
    if (share >= 1)
        progress_end(&progress);
}

static int ask(int argc, char **argv)
{
    struct buf secret = {0};
    log_setup("loquat-node", LOG_ERROR, LOG_TEXT);
    load_secret(&secret);
    setup_tls();
    int code = cluster_command(argc, argv,
                               &(struct cluster_options){.roster = &roster,
                                                         .cluster = options.cluster,
                                                         .secret_file = options.secret_file,
                                                         .secret = buf_span(&secret),
                                                         .tls = tls,
                                                         .replicas = options.replicas,
                                                         .json = options.json,
                                                         .show = show});
    secret_drop(&secret);
    tls_free(tls);
    return output_finish("loquat-node") ? code : EXIT_FAILURE;
}

static void setup(int argc, char **argv)
{
    int first = config_load(argc, argv, "loquat-node",
                            "--data DIR --cluster-secret-file FILE\n" CLUSTER_USAGE,
                            "Keeps the logs on disk, for gateways that connect to it; or says how "
                            "a cluster of such nodes is.",
                            TABLE);
    const char *wrong = log_setup_words("loquat-node", options.log_level, options.log_format);
    if (wrong != NULL)
        program_usage(wrong, " is not one of those that --help lists");
    if (options.data == NULL && first == argc)
        program_usage("where are the logs? ", "Give --data DIR");
    if (options.secret_file == NULL)
        program_usage("who may connect? ",
                      "Give --cluster-secret-file FILE, the same to the gateways");
    check_cluster(first == argc);
    if (first < argc)
        exit(ask(argc - first, argv + first));
    choose_listen();
}

static int open_listener(const char *option, const char *address, char actual[LISTEN_ADDRESS_MAX])
{
    char why[512] = "";
    int wrong = 0, fd = listen_on(address, 0, actual, why, sizeof why, &wrong);
    if (fd < 0)
        wrong ? program_usage(option, why) : program_fail(why);
    return fd;
}

static struct admin *start_admin(void)
{
    char actual[LISTEN_ADDRESS_MAX];
    if (options.admin_listen == NULL)
        return NULL;
    int fd = open_listener("--admin-listen: ", options.admin_listen, actual);
    log_info("serving operators", {"listen", log_str(actual)});
    return admin_start(fd);
}

static void block_signals(sigset_t *signals)
{
    sigemptyset(signals);
    sigaddset(signals, SIGTERM);
    sigaddset(signals, SIGINT);
    sigaddset(signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, signals, NULL); /* threads inherit it: one waits for them */
    (void)signal(SIGPIPE, SIG_IGN);
}

/* Until a signal ends it; that may be before the others are there. */
static void serve(struct node *node, struct admin *admin, char *actual, const sigset_t *signals)
{
    static const struct timespec LOOK = {.tv_nsec = 5000000};
    bool ready = false;
    int sig = 0;
    if (!node_ready(node))
        log_info("waiting until most nodes of the cluster are there");
    do {
        sig = ready ? sigwaitinfo(signals, NULL) : sigtimedwait(signals, NULL, &LOOK);
        if (sig == SIGHUP)
            reload();
        if (ready || !node_ready(node))
            continue;
        ready = true;
        admin_ready(admin, true);
        log_info("serving", {"listen", log_str(actual)},
                 {"tls", log_str(tls != NULL ? "yes" : "no")});
        program_ready(actual);
    } while (sig < 0 || sig == SIGHUP);
    log_info("draining", {"signal", log_int(sig)});
    admin_ready(admin, false);
}

int main(int argc, char **argv)
{
    char why[1024] = "", actual[LISTEN_ADDRESS_MAX];
    struct buf secret;
    struct node *node = NULL;
    sigset_t signals;
    if (!program_begin("loquat-node", false))
        program_fail("standard input, output and error are not to be had");
    setup(argc, argv);
    block_signals(&signals);
    file_limit_raise();
    load_secret(&secret);
    setup_tls();
    struct node_config config = {.dir = options.data,
                                 .partitions = (uint32_t)options.partitions,
                                 .disk_reserve = options.disk_reserve_mb << 20,
                                 .listens = true,
                                 .listen_fd = open_listener("--listen: ", options.listen, actual),
                                 .secret = buf_span(&secret),
                                 .tls = tls,
                                 .roster = &roster,
                                 .id = options.id,
                                 .join = options.join};
    struct admin *admin = start_admin();
    if (node_start(&config, &node, why, sizeof why) != 0)
        program_fail(why);
    serve(node, admin, actual, &signals);
    node_stop(node);
    admin_stop(admin);
    secret_drop(&secret);
    tls_free(tls);
    log_info("ended");
    return EXIT_SUCCESS;
}
