/* store/client/nick.h: the user id that stands for a nickname of an imported log.
 * Ids are 1–64 bytes of A-Za-z0-9._@-, nicknames are anything, so:
 * - a byte that ids may hold stands for itself; any other is written `.xx` (lower-case hex);
 * - a dot stays a dot only before A–Z, a–z beyond f, `_` or `@`, and is written `.2e` otherwise;
 * - what gets longer than 64 bytes keeps its front and ends with `.-` and 32 digits of XXH3-128;
 * - nobody is `system.`, the empty nickname is `empty.`.
 * Two nicknames never share an id (as far as XXH3-128 tells them apart): reading from the left, `.`
 * with two hex digits is one byte, and no other nickname's id holds `.-` or ends with a dot. */
#ifndef LOQUAT_CLIENT_NICK_H
#define LOQUAT_CLIENT_NICK_H

#include "store/base/ids.h"

#define NICK_NOBODY "system."

/* Returns the length. `nick.p == NULL` is nobody. */
size_t nick_user(struct span nick, char user[USER_MAX + 1]);

#endif
