/* What a reaction may be. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "gateway/emoji.h"
#include "store/base/ids.h"

static bool valid(const char *text)
{
    return emoji_valid(span_str(text));
}

Test(emoji, one_of_them)
{
    static const char *const emojis[] = {
        "\xf0\x9f\x91\x8d",                 /* thumbs up */
        "\xf0\x9f\x91\x8d\xf0\x9f\x8f\xbf", /* of a dark skin */
        "\xe2\x9d\xa4\xef\xb8\x8f",         /* a heart, shown as a picture */
        "1\xef\xb8\x8f\xe2\x83\xa3",        /* a keycap */
        "\xf0\x9f\x87\xaa\xf0\x9f\x87\xba", /* a flag of two letters */
        "\xf0\x9f\x91\xa8\xe2\x80\x8d\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa7", /* a family */
        "\xe2\x9c\x85", /* a picture by itself */
        ":+1:",
        ":party_parrot:",
        ":a-2:",
    };
    for (size_t i = 0; i < sizeof emojis / sizeof *emojis; i++)
        cr_assert(valid(emojis[i]), "%s", emojis[i]);
}

Test(emoji, nothing_else)
{
    static const char *const others[] = {
        "",
        "a",
        "1",
        " ",
        "::",
        ":",
        ":Big:",
        ":a b:",
        ":a",
        "\xe2\x9d\xa4",                     /* a heart as text */
        "\xf0\x9f\x87\xaa",                 /* one letter of a flag */
        "\xf0\x9f\x91\x8d\xf0\x9f\x91\x8d", /* two */
        "\xf0\x9f\x91\x8d ",
        "a\xef\xb8\x8f", /* no picture, whatever is asked */
        "\xef\xb8\x8f",  /* a selector of nothing */
        "\xe2\x80\x8d",  /* a joiner of nothing */
        "\xf0\x9f\x91",  /* cut off */
        "\xff\xfe",      /* no UTF-8 */
        "\xed\xa0\x80",  /* half of a pair */
        "<b>",
        ":aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:", /* 33 bytes */
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        cr_assert(not(valid(others[i])), "%s", others[i]);
    cr_assert(not(emoji_valid(span_of("\0", 1))));
    cr_assert(not(emoji_valid(span_of("\xf0\x9f\x91\x8d\0", 5))));
}

/* As long as it may be, and a byte longer. */
Test(emoji, bounds)
{
    char name[EMOJI_MAX + 2];
    memset(name, 'a', sizeof name);
    name[0] = name[EMOJI_MAX - 1] = ':';
    cr_assert(emoji_valid(span_of(name, EMOJI_MAX)));
    name[EMOJI_MAX - 1] = 'a';
    name[EMOJI_MAX] = ':';
    cr_assert(not(emoji_valid(span_of(name, EMOJI_MAX + 1))));
}
