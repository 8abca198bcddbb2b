/* Read strictly: the fields decide who a client is. */
#include "http/forwarded.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "base/num.h"
#include "base/url.h"
#include "http/fields.h"

static bool forwarded_is_alnum(char c)
{
    char l = str_lower_char(c);

    return (c >= '0' && c <= '9') || (l >= 'a' && l <= 'z');
}

static bool forwarded_is_ip(struct str s, int family)
{
    char text[INET6_ADDRSTRLEN];
    unsigned char ip[16];

    if (s.n == 0 || s.n >= sizeof(text))
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = 0;
    return inet_pton(family, text, ip) == 1;
}

static bool forwarded_element_is_port(struct str s)
{
    uint64_t v;

    return s.n <= 5 && num_parse_u64(s, &v) && v <= 65535;
}

/* An obfuscated name (RFC 7239 6.3): "_" and more. */
static bool forwarded_is_hidden(struct str s)
{
    if (s.n < 2 || s.p[0] != '_')
        return false;
    for (size_t i = 1; i < s.n; i++)
        if (!forwarded_is_alnum(s.p[i]) && str_find_char(STR("._-"), s.p[i]) < 0)
            return false;
    return true;
}

/* A node (RFC 7239 6): its name to `out`. */
static bool forwarded_read_node(struct str s, struct str *out)
{
    struct str name, port;
    bool with_port;

    if (s.n > 0 && s.p[0] == '[') {
        ptrdiff_t end = str_find_char(s, ']');

        if (end < 0)
            return false;
        *out = str_make(s.p + 1, (size_t)end - 1);
        s = str_make(s.p + end + 1, s.n - (size_t)end - 1);
        if (s.n > 0 && s.p[0] != ':')
            return false;
        port = s.n > 0 ? str_make(s.p + 1, s.n - 1) : s;
        return forwarded_is_ip(*out, AF_INET6) &&
               (s.n == 0 || forwarded_element_is_port(port) || forwarded_is_hidden(port));
    }
    with_port = str_cut(s, ':', &name, &port);
    *out = name;
    if (with_port && !forwarded_element_is_port(port) && !forwarded_is_hidden(port))
        return false;
    return forwarded_is_ip(name, AF_INET) || str_eq_nocase(name, STR("unknown")) ||
           forwarded_is_hidden(name);
}

static bool forwarded_element_is_proto(struct str s)
{
    return str_eq_nocase(s, STR("http")) || str_eq_nocase(s, STR("https"));
}

static bool forwarded_element_is_host(struct str s)
{
    struct str host;
    uint16_t port;
    bool ipv6;

    return s.n > 0 && url_parse_authority(s, &host, &ipv6, &port) == 0;
}

/* A token, or a quoted string without escapes, which nothing that is said here needs. What it holds
 * to `out`; how long it is, or 0. */
static size_t forwarded_read_value(struct str s, struct str *out)
{
    ptrdiff_t end;

    if (s.n == 0 || s.p[0] != '"') {
        *out = str_make(s.p, field_token_len(s));
        return out->n;
    }
    s = str_make(s.p + 1, s.n - 1);
    end = str_find_char(s, '"');
    if (end < 0)
        return 0;
    *out = str_make(s.p, (size_t)end);
    if (str_find_char(*out, '\\') >= 0 || field_text_len(*out) != out->n)
        return 0;
    return (size_t)end + 2;
}

static void forwarded_skip_blanks(struct str *s)
{
    while (s->n > 0 && (s->p[0] == ' ' || s->p[0] == '\t'))
        *s = str_make(s->p + 1, s->n - 1);
}

static struct str forwarded_take(struct str *s, size_t n)
{
    struct str taken = str_make(s->p, n);

    *s = str_make(s->p + n, s->n - n);
    return taken;
}

/* Notes one parameter. False: wrong, or told twice. Unknown ones are passed over. */
static bool forwarded_note(struct forwarded *out, struct str name, struct str value)
{
    struct str node;

    if (str_eq_nocase(name, STR("for"))) {
        if (out->node.p || !forwarded_read_node(value, &node))
            return false;
        out->node = node;
    } else if (str_eq_nocase(name, STR("proto"))) {
        if (out->proto.p || !forwarded_element_is_proto(value))
            return false;
        out->proto = value;
    } else if (str_eq_nocase(name, STR("host"))) {
        if (out->host.p || !forwarded_element_is_host(value))
            return false;
        out->host = value;
    }
    return true;
}

int forwarded_next(struct str *rest, struct forwarded *out)
{
    *out = (struct forwarded){ 0 };
    for (;;) { /* empty elements count for nothing (RFC 9110 5.6.1) */
        forwarded_skip_blanks(rest);
        if (rest->n == 0)
            return 0;
        if (rest->p[0] != ',')
            break;
        forwarded_take(rest, 1);
    }
    for (;;) {
        struct str name = forwarded_take(rest, field_token_len(*rest)), value;
        size_t n;

        if (name.n == 0 || rest->n == 0 || rest->p[0] != '=')
            return -1;
        forwarded_take(rest, 1);
        n = forwarded_read_value(*rest, &value);
        if (n == 0 || !forwarded_note(out, name, value))
            return -1;
        forwarded_take(rest, n);
        if (rest->n == 0 || rest->p[0] != ';')
            break;
        forwarded_take(rest, 1);
    }
    forwarded_skip_blanks(rest);
    if (rest->n == 0)
        return 1;
    if (rest->p[0] != ',')
        return -1;
    forwarded_take(rest, 1);
    return 1;
}

static bool forwarded_all(struct str list, bool (*is)(struct str element))
{
    struct str element;
    bool any = false;

    while (str_next_element(&list, &element)) {
        if (!is(element))
            return false;
        any = true;
    }
    return any;
}

/* More forms are around than there are rules: what no reader could stumble over. */
static bool forwarded_element_is_for(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!forwarded_is_alnum(s.p[i]) && str_find_char(STR(".:_-[]%"), s.p[i]) < 0)
            return false;
    return s.n <= 255;
}

static bool forwarded_is_port_number(struct str s)
{
    return s.n > 0 && forwarded_element_is_port(s);
}

static bool forwarded_is_proto_of_old(struct str s)
{
    return forwarded_element_is_proto(s) || str_eq_nocase(s, STR("ws")) ||
           str_eq_nocase(s, STR("wss"));
}

bool forwarded_is_for(struct str list)
{
    return forwarded_all(list, forwarded_element_is_for);
}

bool forwarded_is_proto(struct str list)
{
    return forwarded_all(list, forwarded_is_proto_of_old);
}

bool forwarded_is_host(struct str list)
{
    return forwarded_all(list, forwarded_element_is_host);
}

bool forwarded_is_port(struct str list)
{
    return forwarded_all(list, forwarded_is_port_number);
}
