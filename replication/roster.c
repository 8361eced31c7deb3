#include "replication/roster.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/ids.h"

enum { ROSTER_VERSION = 1, ROSTER_PREFIX = 0xffff, KEY_SIZE = 10, ENTRY_MAX = 160 };
_Static_assert((int)PARTITIONS_MAX < (int)ROSTER_PREFIX,
               "rows of the roster stand behind all partitions");

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

/* ---- who was met ---- */

struct roster_key {
    char bytes[KEY_SIZE];
};

static struct roster_key key_of(uint64_t id)
{
    struct roster_key key = {{0}};
    put_be16(key.bytes, ROSTER_PREFIX);
    put_be64(key.bytes + 2, id);
    return key;
}

static int put_row(struct kv *raft, uint64_t id, struct span value)
{
    struct roster_key key = key_of(id);
    char version = ROSTER_VERSION;
    struct kv_batch batch;
    kv_batch_init(&batch, raft);
    kv_put2(&batch, KV_LOG, span_of(key.bytes, KEY_SIZE), span_of(&version, 1), value);
    int err = kv_write(&batch);
    kv_batch_close(&batch);
    return err;
}

/* The value of the row, of `size` bytes, is behind the first byte of `row`. */
static int get_row(struct kv *raft, uint64_t id, size_t size, struct buf *row)
{
    struct roster_key key = key_of(id);
    int err = kv_get(raft, KV_LOG, span_of(key.bytes, KEY_SIZE), row);
    if (err == 0 && (row->n != 1 + size || row->p[0] != ROSTER_VERSION))
        err = ERR_CORRUPT;
    return err;
}

int roster_meet(struct kv *raft, uint64_t id, struct span incarnation)
{
    struct buf row = {0};
    ASSERT(incarnation.n == ROSTER_ID_SIZE);
    int err = get_row(raft, id, ROSTER_ID_SIZE, &row);
    if (err == ERR_NOT_FOUND)
        err = put_row(raft, id, incarnation);
    else if (err == 0 && memcmp(row.p + 1, incarnation.p, ROSTER_ID_SIZE) != 0)
        err = ERR_CONFLICT;
    buf_close(&row);
    return err;
}

int roster_put_drained(struct kv *raft, bool drained)
{
    char value = (char)drained;
    return put_row(raft, 0, span_of(&value, 1));
}

int roster_get_drained(struct kv *raft, bool *drained)
{
    struct buf row = {0};
    int err = get_row(raft, 0, 1, &row);
    *drained = err == 0 && row.p[1] != 0;
    buf_close(&row);
    return err == ERR_NOT_FOUND ? 0 : err;
}
