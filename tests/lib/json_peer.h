/* tests/lib/json_peer.h: what another reader (jansson) says of a text. */
#ifndef LOQUAT_TESTS_JSON_PEER_H
#define LOQUAT_TESTS_JSON_PEER_H

#include "store/base/span.h"

/* It is JSON, an object, and has that many different names. */
bool json_peer_object(struct span text, size_t members);

#endif
