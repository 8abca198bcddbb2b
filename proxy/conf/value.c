/* The forms of single values. */
#include "conf/value.h"

#include <ctype.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "base/num.h"
#include "base/url.h"
#include "conf/file.h"
#include "conf/mistake.h"

#define WHY(...) (snprintf(why, VALUE_WHY_MAX, __VA_ARGS__), false)

/* A text longer than any address literal is rejected; others get the NUL that inet_pton() needs. */
static bool value_parse_ip(int family, struct str text, void *out)
{
    char buf[INET6_ADDRSTRLEN + 1];

    if (text.n >= sizeof(buf))
        return false;
    memcpy(buf, text.p, text.n);
    buf[text.n] = '\0';
    return inet_pton(family, buf, out) == 1;
}

static bool value_unix_address(struct arena *a, const char *file, struct str text,
    struct addr_conf *out, char why[VALUE_WHY_MAX])
{
    struct sockaddr_un *un = (struct sockaddr_un *)&out->sa;
    struct str path = file_resolve(a, file, str_make(text.p + 5, text.n - 5));

    if (text.n == 5)
        return WHY("\"unix:\" has no path; write \"unix:/run/app.sock\"");
    if (!path.p)
        return WHY("out of memory");
    if (path.n >= sizeof(un->sun_path))
        return WHY("the path has %zu bytes, and a unix socket's may have %zu; take a shorter one",
            path.n, sizeof(un->sun_path) - 1);
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path.p, path.n);
    out->salen = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.n + 1);
    return true;
}

static bool value_ip_address(
    struct arena *a, struct str text, struct addr_conf *out, char why[VALUE_WHY_MAX])
{
    struct sockaddr_in *in = (struct sockaddr_in *)&out->sa;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&out->sa;
    const char *shown = mistake_quote(a, text);
    ptrdiff_t colon = -1;
    struct str host;
    uint64_t port;

    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] == ':')
            colon = (ptrdiff_t)i;
    if (colon < 0)
        return WHY("%s has no port; write HOST:PORT, [IPV6]:PORT or unix:PATH", shown);
    host = str_make(text.p, (size_t)colon);
    if (host.n == 0)
        return WHY(
            "%s has no host; write 127.0.0.1:PORT, or 0.0.0.0:PORT for all addresses", shown);
    if (!num_parse_u64(str_make(text.p + colon + 1, text.n - (size_t)colon - 1), &port) ||
        port == 0 || port > 65535)
        return WHY("the port of %s is not a number from 1 to 65535; write HOST:PORT, [IPV6]:PORT "
                   "or unix:PATH",
            shown);
    if (host.p[0] == '[') {
        if (host.p[host.n - 1] != ']' ||
            !value_parse_ip(AF_INET6, str_make(host.p + 1, host.n - 2), &in6->sin6_addr))
            return WHY("the host of %s is no IPv6 address; write it like [::1]:8080", shown);
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)port);
        out->salen = sizeof(*in6);
        return true;
    }
    if (str_find_char(host, ':') >= 0)
        return WHY(
            "an IPv6 address stands in brackets before its port; write %s like [::1]:8080", shown);
    if (str_eq_nocase(host, STR("localhost")))
        host = STR("127.0.0.1");
    if (!value_parse_ip(AF_INET, host, &in->sin_addr))
        return WHY("the host of %s is neither an IP address nor localhost; names are looked up "
                   "only for servers and origins",
            shown);
    in->sin_family = AF_INET;
    in->sin_port = htons((uint16_t)port);
    out->salen = sizeof(*in);
    return true;
}

bool value_address(struct arena *a, const char *file, struct str text, struct addr_conf *out,
    char why[VALUE_WHY_MAX])
{
    memset(&out->sa, 0, sizeof(out->sa));
    out->text = arena_copy(a, text);
    if (!out->text.p)
        return WHY("out of memory");
    if (str_starts_with(text, STR("unix:")))
        return value_unix_address(a, file, text, out, why);
    return value_ip_address(a, text, out, why);
}

bool value_listen_address(struct arena *a, const char *file, struct str text, struct addr_conf *out,
    char why[VALUE_WHY_MAX])
{
    struct str written = text;

    if (str_starts_with(text, STR("*:")))
        text = arena_printf(a, "[::]" STR_FMT, STR_ARG(str_make(text.p + 1, text.n - 1)));
    if (!text.p)
        return WHY("out of memory");
    if (!value_address(a, file, text, out, why))
        return false;
    out->text = arena_copy(a, written);
    return out->text.p ? true : WHY("out of memory");
}

/* Whether it can be a name in DNS or /etc/hosts, and not a mistyped address. */
static bool value_is_name(struct str host)
{
    bool any_letter = false;

    for (size_t i = 0; i < host.n; i++) {
        char c = str_lower_char(host.p[i]);

        any_letter = any_letter || (c >= 'a' && c <= 'z');
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.'))
            return false;
    }
    return any_letter && host.n <= 253 && host.p[0] != '.' && host.p[0] != '-' &&
           !memmem(host.p, host.n, "..", 2);
}

bool value_server_address(struct arena *a, const char *file, struct str text, struct addr_conf *out,
    char why[VALUE_WHY_MAX])
{
    struct str host, port;
    uint64_t n;

    out->host = (struct str){ 0 };
    if (str_starts_with(text, STR("unix:")) || !str_cut(text, ':', &host, &port) ||
        !value_is_name(host) || str_eq_nocase(host, STR("localhost")) || !num_parse_u64(port, &n) ||
        n == 0 || n > 65535)
        return value_address(a, file, text, out, why);
    memset(&out->sa, 0, sizeof(out->sa));
    out->salen = 0;
    out->text = arena_copy(a, text);
    out->host = str_make(out->text.p, host.n);
    out->port = (uint16_t)n;
    return out->text.p ? true : WHY("out of memory");
}

/* Clears the bits behind the first `bits`; whether any was set. */
static bool value_clear_host_bits(unsigned char *addr, size_t n, unsigned bits)
{
    bool any = false;

    for (size_t i = 0; i < n; i++) {
        unsigned kept = bits > i * 8 ? bits - (unsigned)i * 8 : 0;
        unsigned char mask = kept >= 8 ? 0xff : (unsigned char)(0xff << (8 - kept));

        any = any || (addr[i] & ~mask);
        addr[i] &= mask;
    }
    return any;
}

bool value_cidr(struct arena *a, struct str text, struct cidr_conf *out, char why[VALUE_WHY_MAX])
{
    static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff };
    const char *shown = mistake_quote(a, text);
    struct str host, bits;
    bool slash = str_cut(text, '/', &host, &bits);
    unsigned most;
    uint64_t v;

    *out = (struct cidr_conf){ 0 };
    if (str_eq(text, STR("unix"))) {
        out->family = AF_UNIX;
        return true;
    }
    if (value_parse_ip(AF_INET, host, out->addr))
        out->family = AF_INET;
    else if (value_parse_ip(AF_INET6, host, out->addr))
        out->family = AF_INET6;
    else
        return WHY("%s is no address; write one like \"10.0.0.0/8\", \"192.0.2.1\", \"fd00::/8\", "
                   "or \"unix\"",
            shown);
    most = out->family == AF_INET ? 32 : 128;
    out->bits = most;
    if (slash) {
        if (!num_parse_u64(bits, &v) || v > most)
            return WHY("%s does not end with a number of bits from 0 to %u", shown, most);
        out->bits = (unsigned)v;
    }
    if (value_clear_host_bits(out->addr, most / 8, out->bits)) {
        char right[INET6_ADDRSTRLEN];

        inet_ntop(out->family, out->addr, right, sizeof(right));
        return WHY("%s has bits set behind its first %u; write \"%s/%u\"", shown, out->bits, right,
            out->bits);
    }
    /* IPv4 peers count as IPv4, also on a listener that sees them as IPv6. */
    if (out->family == AF_INET6 && out->bits >= 96 && memcmp(out->addr, mapped, 12) == 0) {
        memmove(out->addr, out->addr + 12, 4);
        memset(out->addr + 4, 0, 12);
        out->family = AF_INET;
        out->bits -= 96;
    }
    return true;
}

struct str value_canonical_host(struct arena *a, struct str host, bool ipv6)
{
    struct str out = arena_copy(a, host);
    struct in6_addr in6;
    char text[INET6_ADDRSTRLEN];

    if (ipv6 && value_parse_ip(AF_INET6, host, &in6) &&
        inet_ntop(AF_INET6, &in6, text, sizeof(text)))
        return arena_copy(a, str_of(text));
    for (size_t i = 0; out.p && i < out.n; i++)
        ((char *)out.p)[i] = str_lower_char(out.p[i]); /* our own copy */
    return out;
}

/* Only digits and dots: what is meant as an IPv4 address. */
static bool value_looks_like_ipv4(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != '.' && (s.p[i] < '0' || s.p[i] > '9'))
            return false;
    return true;
}

static bool value_check_host(struct str host, bool ipv6, const char *shown, char why[VALUE_WHY_MAX])
{
    unsigned char ip[16];

    if (ipv6 && !value_parse_ip(AF_INET6, host, ip))
        return WHY("the host of %s is no IPv6 address", shown);
    if (!ipv6 && value_looks_like_ipv4(host) && !value_parse_ip(AF_INET, host, ip))
        return WHY("the host of %s is no IPv4 address", shown);
    /* Requests may name hosts with other characters (RFC 3986 3.2.2); a conf never means that. */
    for (size_t i = 0; !ipv6 && i < host.n; i++)
        if (!isalnum((unsigned char)host.p[i]) && !strchr("-._", host.p[i]))
            return WHY("%s is no host name: \"%c\" cannot stand in one", shown, host.p[i]);
    if (!ipv6 && (host.p[0] == '.' || memmem(host.p, host.n, "..", 2)))
        return WHY("the host of %s has an empty part between its dots", shown);
    return true;
}

bool value_host(struct arena *a, struct str text, struct str *out, char why[VALUE_WHY_MAX])
{
    const char *shown = mistake_quote(a, text);
    struct str host;
    uint16_t port;
    bool ipv6;
    int rc;

    *out = (struct str){ "", 0 };
    if (text.n == 0)
        return true;
    rc = url_parse_authority(text, &host, &ipv6, &port);
    if (rc < 0)
        return WHY("%s is no host name; write one like \"llm.example.com\"", shown);
    if (port)
        return WHY("%s has a port, which does not matter here; write \"" STR_FMT "\"", shown,
            STR_ARG(host));
    if (!value_check_host(host, ipv6, shown, why))
        return false;
    if (!ipv6 && host.n > 1 && host.p[host.n - 1] == '.')
        host.n--;
    *out = value_canonical_host(a, host, ipv6);
    return out->p ? true : WHY("out of memory");
}

bool value_origin(
    struct arena *a, struct str text, struct endpoint_conf *out, char why[VALUE_WHY_MAX])
{
    const char *shown = mistake_quote(a, text);
    uint16_t usual;
    struct url url;
    int rc = url_parse(text, &url);

    if (rc == URL_E_USERINFO)
        return WHY(
            "the origin has a user name; keys belong into set_header = { \"Authorization: ...\" }");
    if (rc == URL_E_HOST || rc == URL_E_PORT)
        return WHY(
            "the host of %s: %s; write https://HOST or https://HOST:PORT", shown, url_strerror(rc));
    if (rc < 0 && rc != URL_E_SCHEME)
        return WHY("%s is no origin (%s); write https://HOST or https://HOST:PORT", shown,
            url_strerror(rc));
    usual = rc < 0 ? 0 : url_default_port(url.scheme);
    if (usual == 0)
        return WHY(
            "%s is no origin; write \"https://HOST\" or \"https://HOST:PORT\", in quotes", shown);
    if (!str_eq(url.target, STR("/")))
        return WHY(
            "%s has a path, and an origin ends with its host and port; leave the path out", shown);
    if (!value_check_host(url.host, url.ipv6, shown, why))
        return false;
    out->tls = usual == 443;
    out->ipv6 = url.ipv6;
    out->port = url.port ? url.port : usual;
    out->host = value_canonical_host(a, url.host, url.ipv6);
    if (out->host.p) {
        out->origin = arena_printf(a, url.ipv6 ? "%s://[" STR_FMT "]" : "%s://" STR_FMT,
            out->tls ? "https" : "http", STR_ARG(out->host));
        if (out->origin.p && out->port != usual)
            out->origin = arena_printf(a, STR_FMT ":%u", STR_ARG(out->origin), out->port);
    }
    return out->host.p && out->origin.p ? true : WHY("out of memory");
}

bool value_hidden(struct arena *a, struct str text, struct str *out, char why[VALUE_WHY_MAX])
{
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return WHY("the value holds the control octet 0x%02x (a line's end in the variable?); "
                       "leave it out",
                c);
    }
    *out = arena_copy(a, text);
    return out->p ? true : WHY("out of memory");
}

bool value_host_is_private(struct str host)
{
    static const unsigned char loopback6[16] = { [15] = 1 };
    unsigned char ip[16];

    if (str_eq_nocase(host, STR("localhost")))
        return true;
    if (value_parse_ip(AF_INET, host, ip))
        return ip[0] == 127 || ip[0] == 10 || (ip[0] == 172 && (ip[1] & 0xf0) == 16) ||
               (ip[0] == 192 && ip[1] == 168) || (ip[0] == 169 && ip[1] == 254);
    if (value_parse_ip(AF_INET6, host, ip))
        return (ip[0] & 0xfe) == 0xfc || (ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80) ||
               memcmp(ip, loopback6, 16) == 0;
    return false;
}

/* A token (RFC 9110 5.6.2). */
static bool value_is_token(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = str_lower_char(s.p[i]);

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                (c && strchr("!#$%&'*+-.^_`|~", c))))
            return false;
    }
    return s.n > 0;
}

/* Whether `name` is `other`, or begins with it if that ends with "-"; "_" and "." are read as "-",
 * as CGI-style environments read them. */
static bool value_folds_to(struct str name, const char *other)
{
    size_t n = strlen(other);

    if (other[n - 1] == '-' ? name.n < n : name.n != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        char c = str_lower_char(name.p[i]);

        if ((c == '_' || c == '.' ? '-' : c) != other[i])
            return false;
    }
    return true;
}

static bool value_is_one_of(struct str name, const char *const *list)
{
    for (size_t i = 0; list[i]; i++)
        if (value_folds_to(name, list[i]))
            return true;
    return false;
}

/* RFC 9110 7.6.1, with those of RFC 9110 11.7 and RFC 7540 3.2.1, which end at the next peer too.
 */
static const char *const of_connection[] = { "connection", "keep-alive", "proxy-connection", "te",
    "trailer", "transfer-encoding", "upgrade", "http2-settings", "proxy-authenticate",
    "proxy-authorization", "proxy-authentication-info", NULL };

static const char *const of_message[] = { "content-length", "expect", "host", NULL };

bool value_header(
    struct arena *a, struct str text, struct header_conf *out, char why[VALUE_WHY_MAX])
{
    struct str name, value;
    const char *shown;

    out->unless_present = text.n > 0 && text.p[0] == '?';
    if (out->unless_present)
        text = str_make(text.p + 1, text.n - 1);
    if (!str_cut(text, ':', &name, &value) || !value_is_token(name))
        return WHY("a field is written \"Name: value\", with a name of letters, digits and dashes");
    shown = mistake_quote(a, name);
    if (value_is_one_of(name, of_connection) || value_is_one_of(name, of_message))
        return WHY("%s is Tarry's own to set; leave it out", shown);
    if (value_folds_to(name, "tarry-"))
        return WHY(
            "%s: names that begin with Tarry- are never sent to an upstream; take another", shown);
    value = str_trim(value);
    for (size_t i = 0; i < value.n; i++) {
        unsigned char c = (unsigned char)value.p[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return WHY("the value of %s holds the control octet 0x%02x (a line's end in the "
                       "variable?); leave it out",
                shown, c);
    }
    out->name = arena_copy(a, name);
    out->value = arena_copy(a, value);
    return out->name.p && out->value.p ? true : WHY("out of memory");
}

static const struct str credentials[] = { STR_INIT("authorization"), STR_INIT("x-api-key"),
    STR_INIT("api-key"), STR_INIT("x-goog-api-key"), STR_INIT("x-auth-token"),
    STR_INIT("ocp-apim-subscription-key"), STR_INIT("x-amz-security-token"),
    STR_INIT("cf-aig-authorization"), STR_INIT("x-goog-iam-authorization-token") };

bool value_is_credential(struct str name)
{
    for (size_t i = 0; i < sizeof(credentials) / sizeof(*credentials); i++)
        if (str_eq_nocase(name, credentials[i]))
            return true;
    return false;
}

bool value_status(struct str text, uint16_t *out, char why[VALUE_WHY_MAX])
{
    uint64_t n;

    if (!num_parse_u64(str_trim(text), &n) || n < 400 || n > 599)
        return WHY("\"%.*s\" is no status of an error; write one from 400 to 599",
            (int)(text.n < 20 ? text.n : 20), text.p);
    *out = (uint16_t)n;
    return true;
}

bool value_weight(
    struct arena *a, struct str text, struct weight_conf *out, char why[VALUE_WHY_MAX])
{
    struct str name = { 0 }, weight = { 0 };
    uint64_t n;

    /* The last colon: a tenant's name may have others. */
    for (size_t i = text.n; i > 0 && !name.p; i--)
        if (text.p[i - 1] == ':') {
            name = str_trim(str_make(text.p, i - 1));
            weight = str_trim(str_make(text.p + i, text.n - i));
        }
    if (name.n == 0 || !num_parse_u64(weight, &n) || n < 1 || n > 1000)
        return WHY("%s is no weight of a tenant; write one like \"acme: 4\", from 1 to 1000",
            mistake_quote(a, text));
    out->tenant = arena_copy(a, name);
    out->weight = (unsigned)n;
    return out->tenant.p ? true : WHY("out of memory");
}

bool value_text(struct arena *a, struct str text, struct str *out, char why[VALUE_WHY_MAX])
{
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];

        if (c < 0x20 || c == 0x7f || c == '"' || c == '\\')
            return WHY("the text holds the character 0x%02x; leave it out", c);
    }
    *out = arena_copy(a, text);
    return out->p ? true : WHY("out of memory");
}

bool value_path(struct arena *a, struct str text, struct str *out, char why[VALUE_WHY_MAX])
{
    const char *shown = mistake_quote(a, text);

    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];

        if (c <= 0x20 || c >= 0x7f || strchr("?#\"<>\\^`{|}", c))
            return WHY("%s holds the character 0x%02x, which no path has; write one like "
                       "\"/openai\"",
                shown, c);
    }
    if (text.n > 0 && (text.p[0] != '/' || text.p[text.n - 1] == '/'))
        return WHY("%s is no prefix of paths; write one that begins with a slash and ends without "
                   "one, like \"/openai\"",
            shown);
    *out = arena_copy(a, text);
    return out->p ? true : WHY("out of memory");
}

bool value_selector(
    struct arena *a, struct str text, struct selector_conf *out, char why[VALUE_WHY_MAX])
{
    static const struct {
        struct str name;
        enum selector_kind kind;
    } plain[] = { { STR_INIT("prompt"), SELECTOR_PROMPT },
        { STR_INIT("address"), SELECTOR_ADDRESS }, { STR_INIT("credential"), SELECTOR_CREDENTIAL },
        { STR_INIT("tenant"), SELECTOR_TENANT } };
    const char *shown = mistake_quote(a, text);
    struct str kind, name = { 0 };

    *out = (struct selector_conf){ .kind = SELECTOR_NONE, .name = STR("") };
    if (text.n == 0)
        return true;
    for (size_t i = 0; i < sizeof(plain) / sizeof(*plain); i++)
        if (str_eq(text, plain[i].name)) {
            out->kind = plain[i].kind;
            return true;
        }
    str_cut(text, ':', &kind, &name);
    name = str_trim(name);
    if (str_eq(kind, STR("header")) && value_is_token(name)) {
        out->kind = SELECTOR_HEADER;
        out->name = value_canonical_host(a, name, false); /* to lower case */
    } else if (str_eq(kind, STR("field")) && name.n > 0) {
        out->kind = SELECTOR_FIELD;
        out->name = arena_copy(a, name);
    } else {
        return WHY("%s is no key of requests; write \"header:NAME\", \"field:PATH\", \"prompt\", "
                   "\"address\" or \"credential\"",
            shown);
    }
    return out->name.p ? true : WHY("out of memory");
}

bool value_field_name(struct arena *a, struct str text, struct str *out, char why[VALUE_WHY_MAX])
{
    const char *shown = mistake_quote(a, text);

    if (!value_is_token(text))
        return WHY("%s is no name of a field; write one like \"x-request-id\"", shown);
    if (value_is_one_of(text, of_connection) || value_folds_to(text, "tarry-"))
        return WHY("%s cannot be passed on: it belongs to the connection or to Tarry; leave it out",
            shown);
    *out = value_canonical_host(a, text, false); /* to lower case */
    return out->p ? true : WHY("out of memory");
}

bool value_media_type(struct arena *a, struct str text, struct str *out, char why[VALUE_WHY_MAX])
{
    const char *shown = mistake_quote(a, text);
    struct str type, subtype;

    *out = STR("-"); /* matches no type */
    if (str_find_char(text, ';') >= 0)
        return WHY("%s has parameters, which do not matter here; leave them out", shown);
    if (!str_cut(text, '/', &type, &subtype) || !value_is_token(type) || !value_is_token(subtype) ||
        str_eq(type, STR("*")))
        return WHY("%s is no media type; write one like \"application/json\" or \"text/*\"", shown);
    if (str_eq_nocase(text, STR("text/event-stream")))
        return WHY("event streams are never compressed, as each of their small pieces has to leave "
                   "at once; leave %s out",
            shown);
    if (str_eq(subtype, STR("*")))
        text.n--;
    *out = value_canonical_host(a, text, false); /* to lower case */
    return out->p ? true : WHY("out of memory");
}

bool value_target(struct arena *a, const char *file, struct str text, struct log_target *out,
    char why[VALUE_WHY_MAX])
{
    *out = (struct log_target){ .kind = LOG_TO_FILE };
    if (str_eq(text, STR("stderr"))) {
        out->kind = LOG_TO_STDERR;
    } else if (str_eq(text, STR("stdout"))) {
        out->kind = LOG_TO_STDOUT;
    } else if (str_eq(text, STR("syslog"))) {
        out->kind = LOG_TO_SYSLOG;
    } else if (str_find_char(text, '/') < 0 || text.p[text.n - 1] == '/') {
        out->kind = LOG_TO_NOWHERE;
        return WHY("%s is no target; write \"stderr\", \"stdout\", \"syslog\" or the path of a "
                   "file, with a "
                   "\"/\" in it",
            mistake_quote(a, text));
    } else {
        out->path = file_resolve(a, file, text);
        return out->path.p ? true : WHY("out of memory");
    }
    return true;
}

bool value_mode(struct str text, unsigned *out, char why[VALUE_WHY_MAX])
{
    unsigned mode = 0;

    if (text.n < 3 || text.n > 4)
        return WHY("write the permissions in octal, as in \"0660\"");
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '7')
            return WHY("write the permissions in octal, as in \"0660\"");
        mode = mode * 8 + (unsigned)(text.p[i] - '0');
    }
    if (mode > 0777)
        return WHY("is more than a socket's permissions; write at most \"0777\"");
    *out = mode;
    return true;
}

bool value_prefix(struct arena *a, struct str text, struct str *out, char why[VALUE_WHY_MAX])
{
    const char *shown = mistake_quote(a, text);
    struct str path;

    if (text.n == 0 || text.p[0] != '/')
        return WHY("the prefix %s does not begin with \"/\"", shown);
    for (size_t i = 0; i < text.n; i++)
        if ((unsigned char)text.p[i] < 0x20 || text.p[i] == 0x7f || text.p[i] == '#')
            return WHY("the prefix %s holds an octet that no path has", shown);
    if (!url_normalise_path(a, text, &path))
        return WHY("the prefix %s is no path that a request can have", shown);
    if (!str_eq(path, text))
        return WHY(
            "the prefix %s is never met, as paths are compared in their plain form; write %s",
            shown, mistake_quote(a, path));
    *out = arena_copy(a, text);
    return out->p ? true : WHY("out of memory");
}

bool value_name(struct arena *a, struct str text, struct str *out, char why[VALUE_WHY_MAX])
{
    bool good = text.n > 0 && text.n <= 64;

    for (size_t i = 0; i < text.n && good; i++) {
        char c = str_lower_char(text.p[i]);

        good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c && strchr("._-", c));
    }
    if (!good)
        return WHY(
            "%s is no name; take letters, digits, \".\", \"_\" and \"-\", at most 64 of them",
            mistake_quote(a, text));
    *out = arena_copy(a, text);
    return out->p ? true : WHY("out of memory");
}
