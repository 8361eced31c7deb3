#include "gateway/emoji.h"

#include <stdbool.h>
#include <unicode/ubrk.h>
#include <unicode/uchar.h>
#include <unicode/ustring.h>

#include "store/base/ids.h"

enum { SELECTOR_PICTURE = 0xfe0f, KEYCAP = 0x20e3 };

static bool name_valid(struct span text)
{
    if (text.n < 3 || text.p[0] != ':' || text.p[text.n - 1] != ':')
        return false;
    for (size_t i = 1; i < text.n - 1; i++) {
        char c = text.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '+' || c == '-'))
            return false;
    }
    return true;
}

/* A picture by itself, or one that a selector or a keycap makes it. Two letters of a region are a
 * flag; a single one is none. */
static bool is_picture(const UChar *text, int32_t n)
{
    UChar32 c;
    int32_t at = 0, regions = 0;
    bool picture = false, could = false;
    while (at < n) {
        U16_NEXT(text, at, n, c);
        regions += u_hasBinaryProperty(c, UCHAR_REGIONAL_INDICATOR);
        picture = picture || ((c == SELECTOR_PICTURE || c == KEYCAP) && could) ||
                  (u_hasBinaryProperty(c, UCHAR_EMOJI_PRESENTATION) &&
                   !u_hasBinaryProperty(c, UCHAR_REGIONAL_INDICATOR));
        could = could || u_hasBinaryProperty(c, UCHAR_EMOJI);
    }
    return picture || regions == 2;
}

static bool is_one(const UChar *text, int32_t n)
{
    UErrorCode status = U_ZERO_ERROR;
    UBreakIterator *breaks = ubrk_open(UBRK_CHARACTER, "", text, n, &status);
    if (U_FAILURE(status))
        return false;
    bool one = ubrk_next(breaks) == n;
    ubrk_close(breaks);
    return one;
}

bool emoji_valid(struct span text)
{
    if (text.n == 0 || text.n > EMOJI_MAX)
        return false;
    if (text.p[0] == ':')
        return name_valid(text);
    UChar wide[EMOJI_MAX];
    int32_t n = 0;
    UErrorCode status = U_ZERO_ERROR;
    u_strFromUTF8(wide, EMOJI_MAX, &n, text.p, (int32_t)text.n, &status);
    return U_SUCCESS(status) && n > 0 && is_picture(wide, n) && is_one(wide, n);
}
