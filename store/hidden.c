#include "store/hidden.h"

#include "store/base/err.h"
#include "store/key.h"

int hidden_has(struct kv *kv, const struct kv_view *view, uint32_t partition, struct conv_id id,
               struct span user, uint64_t seq, bool *hidden)
{
    struct key key = key_hidden(partition, id, user, seq);
    struct buf value = {0};
    int err = view != NULL ? kv_view_get(view, KV_CONV, key_span(&key), &value)
                           : kv_get(kv, KV_CONV, key_span(&key), &value);
    buf_close(&value);
    *hidden = err == 0;
    return err == ERR_NOT_FOUND ? 0 : err;
}
