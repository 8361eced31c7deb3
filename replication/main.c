/* replication/main.c: loquat-node: settings, one node that gateways call on over TCP, signals. */
#include <signal.h>
#include <stdlib.h>

#include "gateway/listen.h"
#include "replication/admin.h"
#include "replication/node.h"
#include "store/base/address.h"
#include "store/base/config.h"
#include "store/base/file.h"
#include "store/base/ids.h"
#include "store/base/log.h"
#include "store/base/program.h"
#include "store/base/secret.h"

static struct {
    char *data, *listen, *admin_listen, *cluster, *secret_file, *log_level, *log_format;
    uint64_t id, partitions, disk_reserve_mb;
} options = {
    .listen = "127.0.0.1:7101",
    .log_level = "info",
    .log_format = "auto",
    .id = 1,
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
     .help = "Where gateways connect; port 0: the system chooses",
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
         "Secret of the cluster, 32 bytes or more: with it gateway and node prove to each other "
         "that they belong together",
     .value = &options.secret_file},
    {.name = "id",
     .type = CONFIG_UINT,
     .arg = "N",
     .help = "Number of this node in the cluster; for now there is one, 1",
     .value = &options.id,
     .min = 1,
     .max = UINT32_MAX},
    {.name = "cluster",
     .type = CONFIG_STRING,
     .arg = "ID=HOST:PORT",
     .help = "The nodes of the cluster; for now this one alone, which is so without it, too",
     .value = &options.cluster},
    {.name = "partitions",
     .type = CONFIG_UINT,
     .arg = "N",
     .help = "Partitions of a new DIR (16); of an old one: refuse to start if it has others",
     .value = &options.partitions,
     .max = PARTITIONS_MAX},
    {.name = "disk-reserve",
     .type = CONFIG_UINT,
     .arg = "MIB",
     .help = "Refuse writes when less is free on the disk of DIR",
     .value = &options.disk_reserve_mb,
     .min = 1,
     .max = 1 << 20},
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

/* One voter, which is this one: of more nothing would be replicated yet. */
static void check_cluster(void)
{
    char *end = NULL;
    struct address address;
    if (options.id != 1)
        program_usage("--id: ", "for now a cluster has one node, and its number is 1");
    if (options.cluster == NULL)
        return;
    if (strchr(options.cluster, ',') != NULL)
        program_usage("--cluster: ", "more than one node is not served yet; name this one alone");
    unsigned long id = strtoul(options.cluster, &end, 10);
    if (end == options.cluster || *end != '=' || !address_parse(end + 1, &address))
        program_usage("--cluster: ", "write ID=HOST:PORT, such as 1=127.0.0.1:7101");
    if (id != options.id)
        program_usage("--cluster: ", "this node (--id) is not in it");
}

static void setup(int argc, char **argv)
{
    int first = config_load(argc, argv, "loquat-node", "--data DIR --cluster-secret-file FILE",
                            "Keeps the logs on disk, for gateways that connect to it.", TABLE);
    if (first < argc)
        program_usage("it takes no arguments, but got ", argv[first]);
    const char *wrong = log_setup_words("loquat-node", options.log_level, options.log_format);
    if (wrong != NULL)
        program_usage(wrong, " is not one of those that --help lists");
    if (options.data == NULL)
        program_usage("where are the logs? ", "Give --data DIR");
    if (options.secret_file == NULL)
        program_usage("who may connect? ",
                      "Give --cluster-secret-file FILE, the same to the gateways");
    check_cluster();
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
    pthread_sigmask(SIG_BLOCK, signals, NULL); /* threads inherit it: one waits for them */
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN); /* there is nothing to be read again */
}

int main(int argc, char **argv)
{
    char why[1024] = "", actual[LISTEN_ADDRESS_MAX];
    int sig = 0;
    struct buf secret;
    struct node *node = NULL;
    sigset_t signals;
    if (!program_begin("loquat-node", false))
        program_fail("standard input, output and error are not to be had");
    setup(argc, argv);
    block_signals(&signals);
    file_limit_raise();
    if (secret_load(options.secret_file, &secret, why, sizeof why) != 0)
        program_fail(why);
    struct node_config config = {.dir = options.data,
                                 .partitions = (uint32_t)options.partitions,
                                 .disk_reserve = options.disk_reserve_mb << 20,
                                 .listens = true,
                                 .listen_fd = open_listener("--listen: ", options.listen, actual),
                                 .secret = buf_span(&secret)};
    struct admin *admin = start_admin();
    if (node_start(&config, &node, why, sizeof why) != 0)
        program_fail(why);
    admin_ready(admin, true);
    log_info("serving", {"listen", log_str(actual)});
    program_ready(actual);
    while (sigwait(&signals, &sig) != 0)
        ;
    log_info("draining", {"signal", log_int(sig)});
    admin_ready(admin, false);
    node_stop(node);
    admin_stop(admin);
    secret_drop(&secret);
    log_info("ended");
    return EXIT_SUCCESS;
}
