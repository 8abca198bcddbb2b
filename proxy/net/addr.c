/* Addresses to text and back. */
#include "net/addr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

struct addr addr_of(const struct sockaddr *sa)
{
    struct addr a = { .family = sa->sa_family };

    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)sa;

        memcpy(a.ip, &in->sin_addr, 4);
        a.port = ntohs(in->sin_port);
    } else if (sa->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)sa;

        a.port = ntohs(in6->sin6_port);
        /* An IPv4 client of a dual-stack listener is an IPv4 client. */
        if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
            a.family = AF_INET;
            memcpy(a.ip, in6->sin6_addr.s6_addr + 12, 4);
        } else {
            memcpy(a.ip, &in6->sin6_addr, 16);
        }
    }
    return a;
}

socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof(*out));
    out->ss_family = a->family;
    if (a->family == AF_INET) {
        struct sockaddr_in *in = (void *)out;

        memcpy(&in->sin_addr, a->ip, 4);
        in->sin_port = htons(a->port);
        return sizeof(*in);
    }
    if (a->family == AF_INET6) {
        struct sockaddr_in6 *in6 = (void *)out;

        memcpy(&in6->sin6_addr, a->ip, 16);
        in6->sin6_port = htons(a->port);
        return sizeof(*in6);
    }
    return sizeof(sa_family_t);
}

const char *addr_ip_text(const struct addr *a, char out[ADDR_TEXT_MAX])
{
    if ((a->family != AF_INET && a->family != AF_INET6) ||
        !inet_ntop(a->family, a->ip, out, ADDR_TEXT_MAX))
        snprintf(out, ADDR_TEXT_MAX, "%s", a->family == AF_UNIX ? "unix" : "unknown");
    return out;
}

const char *addr_text(const struct sockaddr *sa, char *out, size_t n)
{
    struct addr a = addr_of(sa);
    char ip[ADDR_TEXT_MAX];

    if (a.family == AF_UNIX) {
        const struct sockaddr_un *un = (const void *)sa;

        snprintf(out, n, "unix:%s", un->sun_path);
    } else {
        addr_ip_text(&a, ip);
        snprintf(out, n, a.family == AF_INET6 ? "[%s]:%u" : "%s:%u", ip, a.port);
    }
    return out;
}

/* Cuts a port and brackets off. */
static struct str addr_host_of(struct str text)
{
    ssize_t at;

    if (text.n > 0 && text.p[0] == '[') {
        at = str_find_char(text, ']');
        return at > 0 ? str_make(text.p + 1, (size_t)at - 1) : STR("");
    }
    at = str_find_char(text, ':');
    if (at >= 0 && str_find_char(str_make(text.p + at + 1, text.n - (size_t)at - 1), ':') < 0)
        text.n = (size_t)at;
    return text;
}

bool addr_parse(struct str text, struct addr *out)
{
    struct str host = addr_host_of(text);
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
    char ip[INET6_ADDRSTRLEN];

    *out = (struct addr){ 0 };
    if (host.n == 0 || host.n >= sizeof(ip))
        return false;
    memcpy(ip, host.p, host.n);
    ip[host.n] = 0;
    if (inet_pton(AF_INET, ip, out->ip) == 1) {
        out->family = AF_INET;
        return true;
    }
    if (inet_pton(AF_INET6, ip, &in6.sin6_addr) != 1)
        return false;
    *out = addr_of((const struct sockaddr *)&in6); /* an IPv4 address mapped to IPv6 is IPv4 */
    return true;
}

bool addr_is_local(const struct addr *a)
{
    switch (a->family) {
    case AF_UNIX:
        return true;
    case AF_INET:
        return a->ip[0] == 127;
    case AF_INET6:
        return memcmp(a->ip, &in6addr_loopback, 16) == 0;
    default:
        return false;
    }
}

bool addr_is_private(const struct sockaddr *sa)
{
    struct addr a = addr_of(sa);

    if (a.family == AF_UNIX)
        return true;
    if (a.family == AF_INET)
        return a.ip[0] == 127 || a.ip[0] == 10 || (a.ip[0] == 172 && (a.ip[1] & 0xf0) == 16) ||
               (a.ip[0] == 192 && a.ip[1] == 168) || (a.ip[0] == 169 && a.ip[1] == 254);
    if (a.family == AF_INET6)
        return (a.ip[0] & 0xfe) == 0xfc || (a.ip[0] == 0xfe && (a.ip[1] & 0xc0) == 0x80) ||
               memcmp(a.ip, &in6addr_loopback, 16) == 0;
    return false;
}
