/* URLs of enclosed requests, Host fields, and the paths that routes are matched with. What is taken
 * can be put together again, and hides nothing from a route. */
#include "base/url.h"
#include "laws.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { INPUT_MAX = 2048 };

static bool has_any(struct str s, const char *set)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '\0' || strchr(set, s.p[i]))
            return true;
    return false;
}

static bool contains(struct str s, const char *what)
{
    return s.n > 0 && memmem(s.p, s.n, what, strlen(what)) != NULL;
}

static void check_url(struct str in, struct arena *a)
{
    struct url u, again;
    struct str text, host;
    uint16_t port;
    bool ipv6;

    if (url_parse(in, &u) < 0)
        return;
    HOLDS(u.scheme.n > 0 && u.host.n > 0 && u.target.n > 0);
    HOLDS(!has_any(u.host, "@/\\?#%[] \t\r\n"));
    HOLDS(u.ipv6 || !has_any(u.host, ":"));
    HOLDS(!has_any(u.target, "# \t\r\n"));
    HOLDS(u.target.p[0] == '?' || url_is_origin_form(u.target));
    text = arena_printf(a, STR_FMT "://%s" STR_FMT "%s", STR_ARG(u.scheme), u.ipv6 ? "[" : "",
        STR_ARG(u.host), u.ipv6 ? "]" : "");
    if (u.port)
        text = arena_printf(a, STR_FMT ":%u", STR_ARG(text), u.port);
    text = arena_printf(a, STR_FMT STR_FMT, STR_ARG(text), STR_ARG(u.target));
    HOLDS(url_parse(text, &again) == 0);
    HOLDS(str_eq(again.host, u.host) && str_eq(again.target, u.target));
    HOLDS(again.port == u.port && again.ipv6 == u.ipv6);
    text =
        arena_printf(a, "%s" STR_FMT "%s", u.ipv6 ? "[" : "", STR_ARG(u.host), u.ipv6 ? "]" : "");
    HOLDS(url_parse_authority(text, &host, &ipv6, &port) == 0);
    HOLDS(str_eq(host, u.host) && ipv6 == u.ipv6 && port == 0);
}

static void check_authority(struct str in)
{
    struct str host;
    uint16_t port;
    bool ipv6;

    if (url_parse_authority(in, &host, &ipv6, &port) < 0)
        return;
    HOLDS(host.n > 0 && !has_any(host, "@/\\?#%[] \t\r\n,"));
    HOLDS(host.p >= in.p && host.p + host.n <= in.p + in.n);
}

/* What a route sees has been resolved to the end: encoding all of it once more changes nothing. */
static void check_path(struct str in, struct arena *a)
{
    struct str path, again, encoded = { 0 };
    char *out;

    if (!url_is_origin_form(in) || !url_normalise_path(a, in, &path))
        return;
    HOLDS(path.n > 0 && path.n <= in.n && path.p[0] == '/');
    HOLDS(!has_any(path, "\\;"));
    HOLDS(!contains(path, "//") && !contains(path, "/./") && !contains(path, "/../"));
    HOLDS(path.n < 3 || memcmp(path.p + path.n - 3, "/..", 3) != 0);
    out = arena_alloc(a, 3 * path.n + 1);
    HOLDS(out);
    for (size_t i = 0; i < path.n; i++) {
        if (path.p[i] == '/')
            out[encoded.n++] = '/';
        else
            encoded.n += (size_t)sprintf(out + encoded.n, "%%%02x", (unsigned char)path.p[i]);
    }
    encoded.p = out;
    HOLDS(url_normalise_path(a, encoded, &again));
    HOLDS(str_eq(again, path));
    HOLDS(url_decode_path(a, encoded, &again));
    HOLDS(str_eq(again, path));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct arena a = { 0 };
    struct str in = { (const char *)data, n };

    if (n > INPUT_MAX)
        return 0;
    check_url(in, &a);
    check_authority(in);
    check_path(in, &a);
    arena_release(&a);
    return 0;
}
