/* Both versions, read strictly: a header that is nearly right is refused. */
#include "net/proxyproto.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "base/num.h"

static const char v1_begin[] = "PROXY ";
static const unsigned char v2_begin[12] = { 0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55,
    0x49, 0x54, 0x0a };

enum { V2_HEAD = 16, TLV_HEAD = 3, TLV_CRC32C = 0x03 };

/* ---- version 1: one line of text ---- */

/* The text up to the next space, which is taken off `rest`; the last field has none behind it. */
static bool proxyproto_next_field(struct str *rest, struct str *field, bool last)
{
    struct str tail;
    bool found = str_cut(*rest, ' ', field, &tail);

    *rest = tail;
    return found != last && field->n > 0;
}

static bool proxyproto_read_ip(struct str text, int family, unsigned char out[16])
{
    char copy[INET6_ADDRSTRLEN];

    if (text.n >= sizeof(copy) || memchr(text.p, 0, text.n))
        return false;
    memcpy(copy, text.p, text.n);
    copy[text.n] = 0;
    return inet_pton(family, copy, out) == 1;
}

static bool proxyproto_read_port(struct str text, uint16_t *port)
{
    uint64_t v;

    if (text.n > 5 || (text.n > 1 && text.p[0] == '0') || !num_parse_u64(text, &v) || v > 65535)
        return false;
    *port = (uint16_t)v;
    return true;
}

static void proxyproto_set_client(
    struct proxyproto *out, int family, const unsigned char ip[16], uint16_t port)
{
    struct addr a = { .family = (uint16_t)family, .port = port };
    struct sockaddr_storage sa;

    memcpy(a.ip, ip, family == AF_INET ? 4 : 16);
    addr_to_sockaddr(&a, &sa);
    out->kind = PROXYPROTO_CLIENT;
    out->client = addr_of((struct sockaddr *)&sa);
}

/* "TCP4 192.0.2.1 198.51.100.1 56324 443" */
static int proxyproto_read_line(struct str line, struct proxyproto *out)
{
    struct str protocol, from, to, from_port, to_port;
    unsigned char ip[16], other[16];
    uint16_t port, other_port;
    int family;

    if (str_eq(line, STR("UNKNOWN")) || str_starts_with(line, STR("UNKNOWN "))) {
        out->kind = PROXYPROTO_UNKNOWN;
        return 0;
    }
    if (!proxyproto_next_field(&line, &protocol, false) ||
        !proxyproto_next_field(&line, &from, false) || !proxyproto_next_field(&line, &to, false) ||
        !proxyproto_next_field(&line, &from_port, false) ||
        !proxyproto_next_field(&line, &to_port, true))
        return PROXYPROTO_E_SYNTAX;
    if (str_eq(protocol, STR("TCP4")))
        family = AF_INET;
    else if (str_eq(protocol, STR("TCP6")))
        family = AF_INET6;
    else
        return PROXYPROTO_E_FAMILY;
    if (!proxyproto_read_ip(from, family, ip) || !proxyproto_read_ip(to, family, other) ||
        !proxyproto_read_port(from_port, &port) || !proxyproto_read_port(to_port, &other_port))
        return PROXYPROTO_E_SYNTAX;
    proxyproto_set_client(out, family, ip, port);
    return 0;
}

static ssize_t proxyproto_parse_v1(struct str in, struct proxyproto *out)
{
    struct str seen = str_make(in.p, in.n < PROXYPROTO_V1_MAX ? in.n : PROXYPROTO_V1_MAX);
    ptrdiff_t cr = str_find_char(seen, '\r');
    size_t begin = sizeof(v1_begin) - 1;
    int rc;

    if (str_find_char(cr < 0 ? seen : str_make(seen.p, (size_t)cr), '\n') >= 0)
        return PROXYPROTO_E_SYNTAX;
    if (cr < 0 || (size_t)cr + 1 == seen.n)
        return seen.n == PROXYPROTO_V1_MAX ? PROXYPROTO_E_TOO_LONG : 0;
    if (seen.p[cr + 1] != '\n')
        return PROXYPROTO_E_SYNTAX;
    rc = proxyproto_read_line(str_make(seen.p + begin, (size_t)cr - begin), out);
    return rc < 0 ? rc : cr + 2;
}

/* ---- version 2: octets ---- */

/* CRC-32C (RFC 9260 appendix A) of the header, with zeros in place of the checksum at `hole`. */
static uint32_t proxyproto_checksum(const unsigned char *p, size_t n, size_t hole)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < n; i++) {
        crc ^= i >= hole && i < hole + 4 ? 0 : p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
    }
    return ~crc;
}

static uint32_t proxyproto_read_u32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Checks the fields behind the addresses: their lengths, and the checksum if there is one. */
static int proxyproto_check_fields(const unsigned char *p, size_t at, size_t end)
{
    bool summed = false;

    while (at < end) {
        size_t n, value = at + TLV_HEAD;

        if (end - at < TLV_HEAD)
            return PROXYPROTO_E_TLV;
        n = (size_t)p[at + 1] << 8 | p[at + 2];
        if (n > end - value)
            return PROXYPROTO_E_TLV;
        if (p[at] == TLV_CRC32C) {
            if (n != 4 || summed ||
                proxyproto_read_u32(p + value) != proxyproto_checksum(p, end, value))
                return PROXYPROTO_E_CHECKSUM;
            summed = true;
        }
        at = value + n;
    }
    return 0;
}

/* Family and transport: how long the addresses are; 0: none are told; or an error. */
static int proxyproto_addresses_length(unsigned char family)
{
    switch (family) {
    case 0x00: /* unspecified */
        return 0;
    case 0x11: /* TCP over IPv4 */
        return 12;
    case 0x21: /* TCP over IPv6 */
        return 36;
    case 0x31: /* unix streams */
        return 216;
    default:
        return PROXYPROTO_E_FAMILY;
    }
}

static ssize_t proxyproto_parse_v2(struct str in, struct proxyproto *out)
{
    const unsigned char *p = (const unsigned char *)in.p, *addresses = p + V2_HEAD;
    size_t n;
    int length, rc;

    if (in.n < V2_HEAD)
        return 0;
    if (p[12] >> 4 != 2)
        return PROXYPROTO_E_VERSION;
    if ((p[12] & 0x0f) > 1)
        return PROXYPROTO_E_COMMAND;
    n = V2_HEAD + ((size_t)p[14] << 8 | p[15]);
    if (n > PROXYPROTO_MAX)
        return PROXYPROTO_E_TOO_LONG;
    length = proxyproto_addresses_length(p[13]);
    if ((p[12] & 0x0f) == 0) {
        /* The rest of a LOCAL header is skipped, whatever it holds. */
        out->kind = PROXYPROTO_LOCAL;
        return in.n < n ? 0 : (ssize_t)n;
    }
    if (length < 0)
        return length;
    if (n < V2_HEAD + (size_t)length)
        return PROXYPROTO_E_ADDRESS;
    if (in.n < n)
        return 0;
    rc = proxyproto_check_fields(p, V2_HEAD + (size_t)length, n);
    if (rc < 0)
        return rc;
    if (p[13] == 0x11)
        proxyproto_set_client(
            out, AF_INET, addresses, (uint16_t)(addresses[8] << 8 | addresses[9]));
    else if (p[13] == 0x21)
        proxyproto_set_client(
            out, AF_INET6, addresses, (uint16_t)(addresses[32] << 8 | addresses[33]));
    else
        out->kind = PROXYPROTO_UNKNOWN;
    return (ssize_t)n;
}

static bool proxyproto_begins_with(struct str in, const void *begin, size_t n)
{
    return memcmp(in.p, begin, in.n < n ? in.n : n) == 0;
}

ssize_t proxyproto_parse(struct str in, struct proxyproto *out)
{
    *out = (struct proxyproto){ .kind = PROXYPROTO_UNKNOWN };
    if (in.n == 0)
        return 0;
    if (proxyproto_begins_with(in, v1_begin, sizeof(v1_begin) - 1))
        return in.n < sizeof(v1_begin) - 1 ? 0 : proxyproto_parse_v1(in, out);
    if (proxyproto_begins_with(in, v2_begin, sizeof(v2_begin)))
        return proxyproto_parse_v2(in, out);
    return PROXYPROTO_E_NONE;
}

const char *proxyproto_strerror(int error)
{
    switch ((enum proxyproto_error)error) {
    case PROXYPROTO_E_NONE:
        return "it does not begin with the PROXY protocol";
    case PROXYPROTO_E_TOO_LONG:
        return "its PROXY header is too long";
    case PROXYPROTO_E_SYNTAX:
        return "its PROXY line is malformed";
    case PROXYPROTO_E_VERSION:
        return "its PROXY header has an unknown version";
    case PROXYPROTO_E_COMMAND:
        return "its PROXY header has an unknown command";
    case PROXYPROTO_E_FAMILY:
        return "its PROXY header has an unknown address family, or one of datagrams";
    case PROXYPROTO_E_ADDRESS:
        return "the addresses in its PROXY header are cut short";
    case PROXYPROTO_E_TLV:
        return "a field of its PROXY header reaches beyond it";
    case PROXYPROTO_E_CHECKSUM:
        return "the checksum of its PROXY header is wrong";
    }
    return "unknown error";
}
