/* Proxies' URLs. */
#include "conf/proxyurl.h"

#include <openssl/evp.h>
#include <stdio.h>

#include "base/num.h"
#include "base/url.h"
#include "conf/mistake.h"

enum { PROXY_PORT = 3128 }; /* what proxies listen on */

#define WHY(...) (snprintf(why, VALUE_WHY_MAX, __VA_ARGS__), false)

static bool proxyurl_decode(struct str text, unsigned char *out, size_t *n, char why[VALUE_WHY_MAX])
{
    uint64_t octet;

    for (size_t i = 0; i < text.n; i++) {
        octet = (unsigned char)text.p[i];
        if (octet == '%') {
            if (i + 2 >= text.n || !num_parse_hex(str_make(text.p + i + 1, 2), &octet))
                return WHY("a percent sign in the user or password lacks its two hex digits; write "
                           "%%25 for a percent sign");
            i += 2;
        }
        out[(*n)++] = (unsigned char)octet;
    }
    return true;
}

/* "user:password" as the value of Proxy-Authorization (RFC 7617 2). */
static bool proxyurl_basic(
    struct arena *a, struct str text, struct str *out, char why[VALUE_WHY_MAX])
{
    unsigned char *plain = arena_alloc(a, text.n + 1);
    char *coded = arena_alloc(a, (text.n + 3) / 3 * 4 + 1);
    size_t n = 0;

    if (!plain || !coded)
        return WHY("out of memory");
    if (!proxyurl_decode(text, plain, &n, why))
        return false;
    if (str_find_char(text, ':') < 0)
        plain[n++] = ':';
    EVP_EncodeBlock((unsigned char *)coded, plain, (int)n);
    *out = arena_printf(a, "Basic %s", coded);
    return out->p ? true : WHY("out of memory");
}

/* Splits at the last "@": the text behind it, and the text in front of it. */
static struct str proxyurl_cut_user(struct str text, struct str *user)
{
    for (size_t i = text.n; i > 0; i--) {
        if (text.p[i - 1] != '@')
            continue;
        *user = str_make(text.p, i - 1);
        return str_make(text.p + i, text.n - i);
    }
    *user = STR("");
    return text;
}

bool proxyurl_parse(
    struct arena *a, struct str text, struct proxy_conf *out, char why[VALUE_WHY_MAX])
{
    struct str scheme = STR("http://"), user, host;
    struct url url;

    *out = (struct proxy_conf){ .host = STR(""), .authorization = STR("") };
    if (text.n == 0)
        return true;
    if (str_starts_with_nocase(text, STR("https://")))
        return WHY("the proxy itself is reached in the clear, and TLS to the upstream goes through "
                   "it; write \"http://HOST:PORT\"");
    if (!str_starts_with_nocase(text, scheme))
        return WHY("a proxy is written \"http://HOST:PORT\"");
    host = proxyurl_cut_user(str_make(text.p + scheme.n, text.n - scheme.n), &user);
    if (url_parse(arena_printf(a, "http://" STR_FMT, STR_ARG(host)), &url) < 0 ||
        !str_eq(url.target, STR("/")))
        return WHY("%s is no proxy; write \"http://HOST:PORT\"", mistake_quote(a, host));
    out->port = url.port ? url.port : PROXY_PORT;
    if (!value_host(a, url.ipv6 ? arena_printf(a, "[" STR_FMT "]", STR_ARG(url.host)) : url.host,
            &out->host, why))
        return false;
    return user.n == 0 || proxyurl_basic(a, user, &out->authorization, why);
}
