#include "store/base/item.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "store/base/clock.h"

enum { ITEMS = 40 };

static uint64_t some(int bits)
{
    return bits == 0 ? 0 : random_u64() >> (64 - bits);
}

/* What is packed here is what protobuf packs, whatever is in the items. */
Test(item, as_protobuf_packs)
{
    static uint8_t noise[70000];
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)i;
    for (int round = 0; round < 200; round++) {
        Loquat__Item items[ITEMS], *each[ITEMS];
        Loquat__Reply reply = LOQUAT__REPLY__INIT;
        for (int i = 0; i < ITEMS; i++) {
            loquat__item__init(&items[i]);
            each[i] = &items[i];
            items[i].seq = some(round % 65);
            items[i].last = some(i % 33);
            items[i].hole = (uint32_t)some(round % 4);
            items[i].edited = some(i % 45);
            items[i].replies = some(round % 20);
            items[i].record = (ProtobufCBinaryData){some(round % 10 == 9 ? 16 : 9), noise};
            items[i].body = (ProtobufCBinaryData){some(i % 8), noise};
        }
        struct buf packed = {0}, wanted = {0};
        reply.items = each;
        reply.n_items = some(6) % (ITEMS + 1);
        size_t size = loquat__reply__get_packed_size(&reply);
        loquat__reply__pack(&reply, (uint8_t *)buf_grow(&wanted, size));
        items_pack(&packed, 10, each, reply.n_items);
        cr_assert(span_eq(buf_span(&packed), buf_span(&wanted)), "round %d", round);
        buf_close(&packed);
        buf_close(&wanted);
    }
}
