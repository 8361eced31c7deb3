/* A node under several clients, for ThreadSanitizer (Criterion aborts under it): links that come
 * and go, writes, reads of every kind, tails, and a stop with links open. Ends with status 0 when
 * all of it was answered; the sanitizer ends it otherwise. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "replication/node.h"
#include "store/base/check.h"
#include "store/base/ids.h"
#include "store/base/log.h"
#include "tests/lib/nodelink.h"
#include "tests/lib/scratch.h"

enum { CLIENTS = 4, LIVES = 2, LINKS = 3, ROUNDS = 25, CONVS = 5 };

static struct node *node;
static char convs[CONVS][64];
static const char *const users[CLIENTS] = {"ann", "bob", "cid", "dan"};

struct client {
    int number, life;
    int fds[LINKS];
    bool stays; /* leaves its last link open for the stop */
    struct nodelink link;
    pthread_t thread;
};

static void follow_all(struct nodelink *link, const char *user)
{
    Loquat__Credit credit = LOQUAT__CREDIT__INIT;
    credit.bytes = 20000; /* soon used up: some are served by reads */
    nodelink_add(link, LINK_CREDIT, &credit.base);
    for (int i = 0; i < CONVS; i++) {
        Loquat__Sub sub = LOQUAT__SUB__INIT;
        sub.conv = convs[i];
        sub.partition = partition_of(conv_id_of(span_str(convs[i])), link->partitions);
        nodelink_add(link, LINK_SUB, &sub.base);
    }
    Loquat__Sub own = LOQUAT__SUB__INIT;
    own.conv = (char *)(uintptr_t)user;
    own.user_log = true;
    own.partition = partition_of(user_log_id(span_str(user)), link->partitions);
    nodelink_add(link, LINK_SUB, &own.base);
}

static void ask(struct nodelink *link, const char *user, uint32_t op, char *conv)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = op;
    read.user = (char *)(uintptr_t)user;
    read.conv = conv;
    read.convs = &conv;
    read.n_convs = 1;
    read.folded = true;
    read.desc = true;
    const char *place = op == LOQUAT__READ_OP__READ_USER ? user : conv;
    const Loquat__Reply *reply = nodelink_reply(link, nodelink_read(link, &read, place));
    ASSERT(reply != NULL && reply->err == 0);
}

static void one_round(struct client *client, int link_number, int round)
{
    struct nodelink *link = &client->link;
    const char *user = users[client->number];
    char *conv = convs[(client->number + round) % CONVS];
    uint64_t last = 0;
    for (int i = 0; i < 8; i++) {
        char cid[32];
        snprintf(cid, sizeof cid, "%d-%d-%d-%d", client->life, link_number, round, i);
        Loquat__Command command = command_send(user, conv, cid, "{\"text\":\"hello\"}");
        last = nodelink_write(link, &command);
    }
    nodelink_flush(link);
    const Loquat__Reply *reply = nodelink_reply(link, last);
    ASSERT(reply != NULL && reply->err == 0);
    Loquat__Command mark = command_mark(user, conv, reply->seq, 0);
    reply = nodelink_do(link, &mark);
    ASSERT(reply != NULL && reply->err == 0);
    for (uint32_t op = LOQUAT__READ_OP__READ_RANGE; op <= LOQUAT__READ_OP__READ_STAT; op++)
        ask(link, user, op, conv);
    Loquat__Credit credit = LOQUAT__CREDIT__INIT;
    credit.bytes = 3000;
    nodelink_add(link, LINK_CREDIT, &credit.base);
    Loquat__Unsub unsub = LOQUAT__UNSUB__INIT;
    unsub.conv = conv;
    unsub.partition = partition_of(conv_id_of(span_str(conv)), link->partitions);
    if (round % 5 == 4)
        nodelink_add(link, LINK_UNSUB, &unsub.base);
    arena_reset(&link->arena);
}

static void *run(void *arg)
{
    struct client *client = arg;
    for (int i = 0; i < LINKS; i++) {
        nodelink_open(&client->link, client->fds[i]);
        follow_all(&client->link, users[client->number]);
        for (int round = 0; round < ROUNDS; round++)
            one_round(client, i, round);
        if (i + 1 < LINKS || !client->stays)
            nodelink_close(&client->link);
    }
    return NULL;
}

static void open_convs(void)
{
    struct nodelink link;
    nodelink_open(&link, node_connect(node));
    char *members[CLIENTS];
    for (int i = 0; i < CLIENTS; i++)
        members[i] = (char *)(uintptr_t)users[i];
    for (int i = 0; i < CONVS; i++) {
        char cid[16];
        snprintf(cid, sizeof cid, "open%d", i);
        Loquat__Command command = command_open_group(users[0], cid, convs[i], members, CLIENTS);
        const Loquat__Reply *reply = nodelink_do(&link, &command);
        ASSERT(reply != NULL && reply->err == 0);
    }
    nodelink_close(&link);
}

int main(void)
{
    char root[SCRATCH_MAX], dir[SCRATCH_MAX + 16], why[512];
    static struct client clients[CLIENTS];
    log_setup("node_tsan", LOG_ERROR, LOG_JSON);
    scratch_make(root);
    snprintf(dir, sizeof dir, "%s/data", root);
    for (int life = 0; life < LIVES; life++) {
        struct node_config config = {
            .dir = dir, .partitions = 4, .disk_reserve = 1, .memtable_bytes = 64 << 10};
        int err = node_start(&config, &node, why, sizeof why);
        if (err != 0)
            fprintf(stderr, "node_tsan: %s\n", why);
        ASSERT(err == 0);
        open_convs();
        for (int i = 0; i < CLIENTS; i++) {
            clients[i] = (struct client){.number = i, .life = life, .stays = i % 2 == 0};
            for (int j = 0; j < LINKS; j++)
                clients[i].fds[j] = node_connect(node);
            int rv = pthread_create(&clients[i].thread, NULL, run, &clients[i]);
            ASSERT(rv == 0);
        }
        for (int i = 0; i < CLIENTS; i++)
            pthread_join(clients[i].thread, NULL);
        node_stop(node);
        for (int i = 0; i < CLIENTS; i++)
            if (clients[i].stays)
                nodelink_close(&clients[i].link);
    }
    scratch_remove(root);
    puts("node_tsan: ok");
    return 0;
}
