/* gateway/emoji.h: what a reaction may be: one emoji as people see it (a grapheme cluster, UAX #29,
 * that is shown as a picture by default or because a selector says so, UTS #51), or `:name:` of
 * a-z, 0-9, _, + and -. At most EMOJI_MAX bytes of UTF-8.
 * Thread: one event loop; the first call of a process opens ICU's tables. */
#ifndef LOQUAT_GATEWAY_EMOJI_H
#define LOQUAT_GATEWAY_EMOJI_H

#include "store/base/span.h"

bool emoji_valid(struct span text);

#endif
