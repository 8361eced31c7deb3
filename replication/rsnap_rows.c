#include "replication/rsnap_rows.h"

static void put_field(struct buf *rows, struct span field)
{
    buf_add_varint(rows, field.n);
    buf_add_span(rows, field);
}

void rsnap_row_put(struct buf *rows, const struct rsnap_row *row)
{
    *buf_grow(rows, 1) = (char)row->cf;
    put_field(rows, row->key);
    put_field(rows, row->value);
}

static bool next_field(struct span *rows, struct span *field)
{
    uint64_t size = 0;
    size_t head = get_varint(rows->p, rows->n, &size);
    if (head == 0 || size > rows->n - head)
        return false;
    *field = span_of(rows->p + head, (size_t)size);
    *rows = span_of(rows->p + head + size, rows->n - head - (size_t)size);
    return true;
}

int rsnap_row_next(struct span *rows, uint32_t partition, struct rsnap_row *row)
{
    if (rows->n == 0)
        return 0;
    uint8_t cf = (uint8_t)rows->p[0];
    *rows = span_of(rows->p + 1, rows->n - 1);
    if (cf >= KV_CF_COUNT || !next_field(rows, &row->key) || !next_field(rows, &row->value) ||
        row->key.n < 2 || get_be16(row->key.p) != partition)
        return ERR_CORRUPT;
    row->cf = (enum kv_cf)cf;
    return 1;
}
