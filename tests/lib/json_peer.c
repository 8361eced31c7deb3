#include "tests/lib/json_peer.h"

#include <jansson.h>

bool json_peer_object(struct span text, size_t members)
{
    json_t *value = json_loadb(text.p, text.n, JSON_DECODE_INT_AS_REAL, NULL);
    bool fits = json_is_object(value) && json_object_size(value) == members;
    json_decref(value);
    return fits;
}
