#include "replication/roster.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/ids.h"

enum { ENTRY_MAX = 160 };

/* ---- what was given ---- */

static bool parse_one(const char *text, struct roster_node *node)
{
    char *end = NULL;
    if (*text < '0' || *text > '9')
        return false;
    unsigned long long id = strtoull(text, &end, 10);
    if (*end != '=' || id == 0 || id > UINT32_MAX || strlen(end + 1) >= sizeof node->name ||
        !address_parse(end + 1, &node->address))
        return false;
    node->id = id;
    snprintf(node->name, sizeof node->name, "%s", end + 1);
    return true;
}

static bool insert(struct roster *roster, const struct roster_node *node, char *why, size_t size)
{
    size_t at = roster->count;
    if (roster->count == ROSTER_NODES_MAX)
        return err_refuse(why, size, "more than %d nodes are not possible", ROSTER_NODES_MAX);
    if (roster_find(roster, node->id) != NULL)
        return err_refuse(why, size, "node %llu is there twice", (unsigned long long)node->id);
    for (size_t i = 0; i < roster->count; i++)
        if (strcmp(roster->nodes[i].name, node->name) == 0)
            return err_refuse(why, size, "%s is there twice", node->name);
    for (; at > 0 && roster->nodes[at - 1].id > node->id; at--)
        roster->nodes[at] = roster->nodes[at - 1];
    roster->nodes[at] = *node;
    roster->count++;
    return true;
}

bool roster_parse(const char *text, struct roster *roster, char *why, size_t size)
{
    roster->count = 0;
    for (;;) {
        char one[ENTRY_MAX];
        struct roster_node node;
        size_t n = strcspn(text, ",");
        if (n >= sizeof one)
            return err_refuse(why, size, "an address is too long");
        memcpy(one, text, n);
        one[n] = '\0';
        if (!parse_one(one, &node))
            return err_refuse(why, size, "write ID=HOST:PORT,…, such as 1=10.0.0.1:7101: \"%s\"",
                              one);
        if (!insert(roster, &node, why, size))
            return false;
        if (text[n] == '\0')
            return true;
        text += n + 1;
    }
}

const struct roster_node *roster_find(const struct roster *roster, uint64_t id)
{
    for (size_t i = 0; i < roster->count; i++)
        if (roster->nodes[i].id == id)
            return &roster->nodes[i];
    return NULL;
}

void roster_cluster_id(const struct roster *roster, uint32_t partitions,
                       char id[ROSTER_ID_SIZE + 1])
{
    struct buf text = {0};
    buf_addf(&text, "partitions %u\n", partitions);
    for (size_t i = 0; i < roster->count; i++)
        buf_addf(&text, "%llu=%s\n", (unsigned long long)roster->nodes[i].id,
                 roster->nodes[i].name);
    XXH128_hash_t hash = XXH3_128bits(text.p, text.n);
    snprintf(id, ROSTER_ID_SIZE + 1, "%016llx%016llx", (unsigned long long)hash.high64,
             (unsigned long long)hash.low64);
    buf_close(&text);
}
