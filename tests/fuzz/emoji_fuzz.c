/* What is said to be one emoji: any bytes are safe to look at, in memory that ends where they end,
 * and what is taken is short, text, and nothing that could end a line or a string. */
#include <stdlib.h>
#include <string.h>

#include "gateway/emoji.h"
#include "store/base/check.h"
#include "store/base/ids.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *bytes = xmalloc(size + (size == 0));
    if (size > 0)
        memcpy(bytes, data, size);
    if (emoji_valid(span_of(bytes, size))) {
        ASSERT(size > 0 && size <= EMOJI_MAX);
        for (size_t i = 0; i < size; i++)
            ASSERT((unsigned char)bytes[i] >= 0x20 && bytes[i] != '"' && bytes[i] != '\\');
        if (size < EMOJI_MAX && bytes[0] != ':') { /* with a letter behind it, it is two */
            char more[EMOJI_MAX];
            memcpy(more, bytes, size);
            more[size] = 'a';
            ASSERT(!emoji_valid(span_of(more, size + 1)));
        }
    }
    free(bytes);
    return 0;
}
