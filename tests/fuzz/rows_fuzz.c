/* Rows of a snapshot from anyone: taken one by one, or refused; what was taken says the same when
 * it is put together again. */
#include "replication/rsnap_rows.h"
#include "store/base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PARTITION = 0x6161 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span rows = span_of(data, size), again;
    struct rsnap_row row, other;
    struct buf packed = {0};
    size_t count = 0;
    while (rsnap_row_next(&rows, PARTITION, &row) > 0) {
        ASSERT(row.key.n >= 2 && row.key.n + row.value.n <= size);
        rsnap_row_put(&packed, &row);
        count++;
    }
    rows = span_of(data, size);
    for (again = buf_span(&packed); rsnap_row_next(&again, PARTITION, &other) > 0; count--) {
        int err = rsnap_row_next(&rows, PARTITION, &row);
        ASSERT(err == 1 && row.cf == other.cf && span_eq(row.key, other.key) &&
               span_eq(row.value, other.value));
    }
    ASSERT(count == 0 && again.n == 0);
    buf_close(&packed);
    return 0;
}
