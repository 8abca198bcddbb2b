/* CONNECT: the request, and what the answers of proxies mean. */
#include "upstream/connecthead.h"

#include <stdio.h>

#include "http/h1parse.h"

/* A proxy's head is small: an answer with a longer one is no proxy's. */
enum { ANSWER_HEAD_MAX = 16 << 10, ANSWER_FIELDS_MAX = 64 };

int connecthead_write(struct buf *out, struct str host, uint16_t port, struct str authorization)
{
    bool ipv6 = str_find_char(host, ':') >= 0;
    const char *open = ipv6 ? "[" : "", *shut = ipv6 ? "]" : "";
    int rc = 0;

    rc |= buf_printf(out, "CONNECT %s" STR_FMT "%s:%u HTTP/1.1\r\nHost: %s" STR_FMT "%s:%u\r\n",
        open, STR_ARG(host), shut, port, open, STR_ARG(host), shut, port);
    if (authorization.n > 0)
        rc |= buf_printf(out, "Proxy-Authorization: " STR_FMT "\r\n", STR_ARG(authorization));
    rc |= buf_printf(out, "\r\n");
    return rc < 0 ? -1 : 0;
}

static ssize_t connecthead_refuse(
    struct connecthead_refusal *out, enum stream_error error, unsigned status, const char *why)
{
    out->error = error;
    if (status)
        snprintf(out->why, sizeof(out->why), "it answered CONNECT with %u: %s", status, why);
    else
        snprintf(out->why, sizeof(out->why), "%s", why);
    return -1;
}

static ssize_t connecthead_judge(unsigned status, struct connecthead_refusal *out)
{
    switch (status) {
    case 407:
        return connecthead_refuse(out, STREAM_E_PROXY, status,
            "it wants other credentials; set proxy_authorization, or the user and password in "
            "proxy");
    case 403:
        return connecthead_refuse(out, STREAM_E_PROXY, status,
            "it does not allow this host and port; allow them in the proxy's rules");
    case 504:
        return connecthead_refuse(out, STREAM_E_CONNECT_TIMEOUT, status,
            "it could not connect in time; look at the way from the proxy to the service");
    }
    if (status >= 500)
        return connecthead_refuse(out, STREAM_E_NO_WAY, status,
            "it cannot reach the service; can it resolve the name, and connect?");
    return connecthead_refuse(
        out, STREAM_E_PROXY, status, "is it an HTTP proxy that allows CONNECT?");
}

ssize_t connecthead_read(struct str in, struct connecthead_refusal *out)
{
    static const struct h1_limits limits = { .head_max = ANSWER_HEAD_MAX,
        .fields_max = ANSWER_FIELDS_MAX };
    struct field fields[ANSWER_FIELDS_MAX];
    size_t used = 0;

    for (;;) {
        struct head head = { .fields = fields };
        struct h1_scan scan = { 0 };
        ssize_t n =
            h1_parse_head(&scan, H1_RESPONSE, &limits, str_make(in.p + used, in.n - used), &head);

        if (n == 0 && in.n > ANSWER_HEAD_MAX)
            n = -1;
        if (n == 0)
            return 0;
        if (n < 0)
            return connecthead_refuse(
                out, STREAM_E_PROXY, 0, "its answer to CONNECT is malformed; is it an HTTP proxy?");
        used += (size_t)n;
        /* A tunnel has no body, whatever the fields say. Interim responses may come before. */
        if (head.status >= 200 && head.status <= 299)
            return (ssize_t)used;
        if (head.status >= 200 || head.status == 101)
            return connecthead_judge(head.status, out);
    }
}
