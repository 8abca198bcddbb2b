/* URLs. One table holds the octets that are allowed in each part. */
#include "base/url.h"

#include "base/num.h"

enum { C_HOST = 1, C_TARGET = 2, C_SCHEME = 4, C_REG_NAME = 8 };

static unsigned url_class_of(unsigned char c)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
        return C_HOST | C_REG_NAME | C_TARGET | C_SCHEME;
    switch (c) {
    case '-':
    case '.':
        return C_HOST | C_REG_NAME | C_TARGET | C_SCHEME;
    case '+':
        return C_REG_NAME | C_TARGET | C_SCHEME;
    case '_':
        return C_HOST | C_REG_NAME | C_TARGET;
    /* sub-delims, and the rest of unreserved (RFC 3986 2.2, 2.3) */
    case '~':
    case '!':
    case '$':
    case '&':
    case '\'':
    case '(':
    case ')':
    case '*':
    case ';':
    case '=':
        return C_REG_NAME | C_TARGET;
    /* The rest of pchar, and "/" and "?". Beyond RFC 3986, the octets that browsers send unescaped
     * in queries; not the quotation mark and angle brackets, which they escape. */
    case ',': /* with a comma it could be two joined Host fields */
    case ':':
    case '@':
    case '/':
    case '?':
    case '%':
    case '[':
    case ']':
    case '|':
    case '{':
    case '}':
    case '^':
    case '`':
    case '\\':
        return C_TARGET;
    default:
        return 0;
    }
}

static bool url_all_of(struct str s, unsigned class)
{
    for (size_t i = 0; i < s.n; i++)
        if (!(url_class_of((unsigned char)s.p[i]) & class))
            return false;
    return true;
}

static bool url_is_ipv6_literal(struct str s)
{
    size_t colons = 0;

    for (size_t i = 0; i < s.n; i++) {
        uint64_t ignored;

        if (s.p[i] == ':')
            colons++;
        else if (s.p[i] != '.' && !num_parse_hex(str_make(s.p + i, 1), &ignored))
            return false; /* a zone ("%eth0") too: it has a meaning on one machine only */
    }
    return colons >= 2 && s.n <= 45;
}

int url_parse_authority(struct str s, struct str *host, bool *ipv6, uint16_t *port)
{
    struct str rest;
    uint64_t v;

    *port = 0;
    *ipv6 = false;
    if (str_find_char(s, '@') >= 0)
        return URL_E_USERINFO;
    if (s.n > 0 && s.p[0] == '[') {
        ptrdiff_t end = str_find_char(s, ']');

        if (end < 0)
            return URL_E_HOST;
        *host = str_make(s.p + 1, (size_t)end - 1);
        *ipv6 = true;
        if (!url_is_ipv6_literal(*host))
            return URL_E_HOST;
        rest = str_make(s.p + end + 1, s.n - (size_t)end - 1);
        if (rest.n == 0)
            return 0;
        if (rest.p[0] != ':')
            return URL_E_HOST;
        rest = str_make(rest.p + 1, rest.n - 1);
    } else {
        bool colon = str_cut(s, ':', host, &rest);

        if (host->n == 0 || host->n > 255 || !url_all_of(*host, C_REG_NAME))
            return URL_E_HOST;
        if (!colon)
            return 0;
    }
    if (rest.n == 0) /* RFC 3986 3.2.3: a port may be empty */
        return 0;
    if (rest.n > 5 || !num_parse_u64(rest, &v) || v == 0 || v > 65535)
        return URL_E_PORT;
    *port = (uint16_t)v;
    return 0;
}

int url_parse_absolute(struct str s, struct url *out)
{
    struct str rest, authority;
    size_t i;
    int rc;

    *out = (struct url){ 0 };
    if (!str_cut(s, ':', &out->scheme, &rest) || out->scheme.n == 0 ||
        !url_all_of(out->scheme, C_SCHEME) || !str_starts_with(rest, STR("//")))
        return URL_E_SCHEME;
    rest = str_make(rest.p + 2, rest.n - 2);
    for (i = 0; i < rest.n && rest.p[i] != '/' && rest.p[i] != '?' && rest.p[i] != '#'; i++)
        ;
    authority = str_make(rest.p, i);
    rc = url_parse_authority(authority, &out->host, &out->ipv6, &out->port);
    if (rc < 0)
        return rc;
    out->target = str_make(rest.p + i, rest.n - i);
    if (str_find_char(out->target, '#') >= 0)
        return URL_E_FRAGMENT;
    if (out->target.n == 0)
        out->target = STR("/");
    else if (!url_all_of(out->target, C_TARGET))
        return URL_E_TARGET;
    return 0;
}

int url_parse(struct str s, struct url *out)
{
    int rc = url_parse_absolute(s, out);
    const char *end;

    if (rc < 0)
        return rc;
    if (!out->ipv6 && !url_all_of(out->host, C_HOST))
        return URL_E_HOST;
    end = out->host.p + out->host.n + out->ipv6;
    return out->port == 0 && end < s.p + s.n && *end == ':' ? URL_E_PORT : 0;
}

const char *url_strerror(int err)
{
    switch ((enum url_error)err) {
    case URL_E_SCHEME:
        return "no scheme (https://...)";
    case URL_E_USERINFO:
        return "user names in URLs are not allowed";
    case URL_E_HOST:
        return "not a host name";
    case URL_E_PORT:
        return "not a port from 1 to 65535";
    case URL_E_TARGET:
        return "not a path";
    case URL_E_FRAGMENT:
        return "a fragment (#) is never sent";
    }
    return "not a URL";
}

uint16_t url_default_port(struct str scheme)
{
    if (str_eq_nocase(scheme, STR("https")))
        return 443;
    return str_eq_nocase(scheme, STR("http")) ? 80 : 0;
}

bool url_is_origin_form(struct str s)
{
    return s.n > 0 && s.p[0] == '/' && url_all_of(s, C_TARGET);
}

/* Decodes the octet at s.p[*i] and advances *i; -1 for a NUL. */
static int url_decode(struct str s, size_t *i)
{
    uint64_t v;
    int c = (unsigned char)s.p[*i];

    if (c == '%' && *i + 2 < s.n && num_parse_hex(str_make(s.p + *i + 1, 2), &v)) {
        c = (int)v;
        *i += 2;
    }
    *i += 1;
    return c == 0 ? -1 : c;
}

/* A segment was just written to out[..n): removes ".", and ".." with its parent. False above the
 * root. */
static bool url_end_segment(const char *out, size_t *n)
{
    size_t begin = *n;

    while (begin > 0 && out[begin - 1] != '/')
        begin--;
    if (*n - begin == 1 && out[begin] == '.') {
        *n = begin;
    } else if (*n - begin == 2 && out[begin] == '.' && out[begin + 1] == '.') {
        if (begin <= 1)
            return false;
        *n = begin - 1;
        while (*n > 0 && out[*n - 1] != '/')
            (*n)--;
    }
    return true;
}

/* Overlong UTF-8 forms (of "." or "/", say): some decoders accept them, so they could hide a
 * segment. */
static bool url_has_overlong(const char *p, size_t n)
{
    for (size_t i = 0; i + 1 < n; i++) {
        unsigned char c = (unsigned char)p[i], next = (unsigned char)p[i + 1];

        if ((c == 0xc0 || c == 0xc1) && (next & 0xc0) == 0x80)
            return true;
        if (c == 0xe0 && next >= 0x80 && next < 0xa0)
            return true;
        if (c == 0xf0 && next >= 0x80 && next < 0x90)
            return true;
    }
    return false;
}

bool url_normalise_path(struct arena *a, struct str target, struct str *path)
{
    struct str in, query;
    bool parameter = false;
    size_t n = 0, i = 0;
    char *out;

    str_cut(target, '?', &in, &query);
    out = arena_alloc(a, in.n + 1);
    if (!out || in.n == 0 || in.p[0] != '/')
        return false;
    while (i < in.n) {
        int c = url_decode(in, &i);

        if (c < 0)
            return false;
        /* An encoded slash or a backslash separates segments too: some backends read it so, and a
         * client must not evade a route. */
        if (c == '/' || c == '\\') {
            parameter = false;
            if (!url_end_segment(out, &n))
                return false;
            if (n == 0 || out[n - 1] != '/')
                out[n++] = '/';
        } else if (c == ';') {
            parameter = true; /* ";jsessionid=1": not part of the name for some backends */
        } else if (!parameter) {
            out[n++] = (char)c;
        }
    }
    if (!url_end_segment(out, &n) || url_has_overlong(out, n))
        return false;
    *path = str_make(out, n);
    return true;
}

bool url_decode_path(struct arena *a, struct str target, struct str *path)
{
    struct str in, query;
    size_t n = 0, i = 0;
    char *out;

    str_cut(target, '?', &in, &query);
    out = arena_alloc(a, in.n + 1);
    if (!out)
        return false;
    while (i < in.n) {
        int c = url_decode(in, &i);

        out[n++] = c < 0 ? '\0' : (char)c;
    }
    *path = str_make(out, n);
    return true;
}

static const struct str url_credentials[] = { STR_INIT("key"), STR_INIT("api_key"),
    STR_INIT("api-key"), STR_INIT("access_token"), STR_INIT("subscription-key") };

bool url_is_credential(struct str parameter)
{
    char plain[32];
    size_t n = 0, at = 0;

    /* Services decode the name before they look at it. */
    while (at < parameter.n && n < sizeof(plain))
        plain[n++] = (char)url_decode(parameter, &at);
    if (at < parameter.n)
        return false;
    parameter = str_make(plain, n);
    for (size_t i = 0; i < sizeof(url_credentials) / sizeof(*url_credentials); i++)
        if (str_eq_nocase(parameter, url_credentials[i]))
            return true;
    return false;
}

static bool url_has_key(struct str query)
{
    struct str one, name, value;

    while (query.n > 0) {
        str_cut(query, '&', &one, &query);
        if (str_cut(one, '=', &name, &value) && value.n > 0 && url_is_credential(name))
            return true;
    }
    return false;
}

struct str url_hide_keys(struct arena *a, struct str target)
{
    static const struct str hidden = STR_INIT("***");
    struct str path, query, one, name, value;
    char *p, *at;

    if (!str_cut(target, '?', &path, &query) || !url_has_key(query))
        return target;
    /* A value of one octet grows by two, and has a name and a "=" before it. */
    p = at = arena_alloc(a, 2 * target.n + 1);
    if (!p)
        return path;
    memcpy(at, path.p, path.n);
    at += path.n;
    for (char sep = '?'; query.n > 0; sep = '&') {
        str_cut(query, '&', &one, &query);
        if (str_cut(one, '=', &name, &value) && value.n > 0 && url_is_credential(name)) {
            one = str_make(name.p, name.n + 1);
            value = hidden;
        } else {
            value = (struct str){ 0 };
        }
        *at++ = sep;
        memcpy(at, one.p, one.n);
        at += one.n;
        if (value.n > 0)
            memcpy(at, value.p, value.n);
        at += value.n;
    }
    return str_make(p, (size_t)(at - p));
}
