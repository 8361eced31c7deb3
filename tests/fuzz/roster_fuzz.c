/* Any bytes as --cluster: refused with a reason, or nodes by rising number, each with an address;
 * and written out again they are the same cluster. */
#include <stdlib.h>

#include "replication/roster.h"
#include "store/base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void again(const struct roster *roster)
{
    static struct roster other;
    char why[256] = "", ids[2][ROSTER_ID_SIZE + 1];
    struct buf text = {0};
    for (size_t i = roster->count; i-- > 0;)
        buf_addf(&text, "%llu=%s%s", (unsigned long long)roster->nodes[i].id, roster->nodes[i].name,
                 i > 0 ? "," : "");
    buf_add_byte(&text, 0);
    ASSERT(roster_parse(text.p, &other, why, sizeof why) && other.count == roster->count);
    roster_cluster_id(roster, 16, ids[0]);
    roster_cluster_id(&other, 16, ids[1]);
    ASSERT(strcmp(ids[0], ids[1]) == 0);
    buf_close(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct roster roster;
    char why[256] = "";
    struct buf text = {0};
    buf_add(&text, data, size);
    buf_add_byte(&text, 0);
    if (roster_parse(text.p, &roster, why, sizeof why)) {
        ASSERT(roster.count > 0 && roster.count <= ROSTER_NODES_MAX);
        for (size_t i = 0; i < roster.count; i++) {
            ASSERT(roster.nodes[i].id > (i > 0 ? roster.nodes[i - 1].id : 0));
            ASSERT(roster_find(&roster, roster.nodes[i].id) == &roster.nodes[i]);
            ASSERT(roster.nodes[i].address.host[0] != '\0');
        }
        again(&roster);
    } else {
        ASSERT(why[0] != '\0');
    }
    buf_close(&text);
    return 0;
}
