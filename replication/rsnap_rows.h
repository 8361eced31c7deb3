/* replication/rsnap_rows.h: the rows of a snapshot as bytes: family u8, varint size, key, varint
 * size, value; one after the other. */
#ifndef LOQUAT_REPLICATION_RSNAP_ROWS_H
#define LOQUAT_REPLICATION_RSNAP_ROWS_H

#include "store/kv.h"

struct rsnap_row {
    enum kv_cf cf;
    struct span key, value;
};

void rsnap_row_put(struct buf *rows, const struct rsnap_row *row);
/* Takes the next one from the front; lent. 1; 0: no more; ERR_CORRUPT: no row, or one of another
 * partition, whose key has no business here. */
int rsnap_row_next(struct span *rows, uint32_t partition, struct rsnap_row *row);

#endif
