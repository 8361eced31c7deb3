#include "store/base/address.h"

#include <stdlib.h>
#include <string.h>

enum { PORT_TOP = 65535 };

bool address_parse(const char *text, struct address *address)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon[1] == '\0' || strlen(colon + 1) >= ADDRESS_PORT_MAX ||
        strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
        strtol(colon + 1, NULL, 10) > PORT_TOP)
        return false;
    size_t n = (size_t)(colon - text);
    if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
        text++;
        n -= 2;
    }
    if (n == 0 || n >= ADDRESS_HOST_MAX)
        return false;
    memcpy(address->host, text, n);
    address->host[n] = '\0';
    memcpy(address->port, colon + 1, strlen(colon + 1) + 1);
    return true;
}
