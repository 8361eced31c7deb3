/* store/base/item.h: packs the many items of a page as protobuf does, but in one walk and without
 * descriptors.
 * Thread: any. */
#ifndef LOQUAT_BASE_ITEM_H
#define LOQUAT_BASE_ITEM_H

#include "store/base/buf.h"
#include "wire.pb-c.h"

/* Appends field `number` of a message: each item, in order. */
void items_pack(struct buf *out, uint32_t number, Loquat__Item *const *items, size_t count);

#endif
