#include "store/client/url.h"

#include "store/base/err.h"

static int bad(const char **why, const char *text)
{
    *why = text;
    return ERR_BAD_REQUEST;
}

static const char *port_default(const struct url *url)
{
    return url->tls ? "443" : "80";
}

static bool port_valid(const char *port, size_t n)
{
    uint32_t number = 0;
    if (n == 0 || n > URL_PORT_MAX)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (port[i] < '0' || port[i] > '9')
            return false;
        number = number * 10 + (uint32_t)(port[i] - '0');
    }
    return number > 0 && number <= 65535;
}

static bool host_valid(const char *host, size_t n, bool v6)
{
    if (n == 0 || n > URL_HOST_MAX)
        return false;
    size_t fit = strspn(host, v6 ? "0123456789abcdefABCDEF:."
                                 : "0123456789abcdefghijklmnopqrstuvwxyz"
                                   "ABCDEFGHIJKLMNOPQRSTUVWXYZ-._");
    return fit >= n;
}

int url_parse(const char *text, struct url *url, const char **why)
{
    const char *colon = strstr(text, "://");
    size_t scheme = colon != NULL ? (size_t)(colon - text) : 0;
    struct span name = span_of(text, scheme);
    bool tls = span_is(name, "https") || span_is(name, "wss");
    if (!tls && !span_is(name, "http") && !span_is(name, "ws"))
        return bad(why, "the URL must begin with http://, https://, ws:// or wss://");
    *url = (struct url){.tls = tls};
    memcpy(url->port, port_default(url), strlen(port_default(url)));
    text = colon + 3;
    url->v6 = *text == '[';
    const char *host = url->v6 ? text + 1 : text;
    size_t n = strcspn(host, url->v6 ? "]" : ":/");
    if (!host_valid(host, n, url->v6))
        return bad(why, "the URL has no valid host");
    memcpy(url->host, host, n);
    const char *rest = host + n;
    if (url->v6 && *rest++ != ']')
        return bad(why, "the URL's IPv6 address does not end with ]");
    if (*rest == ':') {
        size_t size = strcspn(++rest, "/");
        if (!port_valid(rest, size))
            return bad(why, "the URL's port is not a number from 1 to 65535");
        memcpy(url->port, rest, size);
        url->port[size] = 0;
        rest += size;
    }
    if (strcmp(rest, "") != 0 && strcmp(rest, "/") != 0)
        return bad(why, "the URL must be an address without a path");
    return 0;
}

void url_add_host(const struct url *url, struct buf *out)
{
    buf_addf(out, url->v6 ? "[%s]" : "%s", url->host);
    if (strcmp(url->port, port_default(url)) != 0)
        buf_addf(out, ":%s", url->port);
}
