/* Requests, checked. Order matters only in that a reset goes before an answer. */
#include "http/h2request.h"

#include "base/url.h"
#include "http/fields.h"

enum { METHOD_MAX = 32 };

static int h2request_check_target(const struct head *h, const struct h1_limits *limits)
{
    if (h->method.n > METHOD_MAX || !field_is_method(h->method))
        return H1_E_METHOD;
    if (str_eq(h->method, STR("CONNECT")))
        return H1_E_CONNECT;
    if (h->target.n > limits->target_max)
        return H1_E_TARGET_TOO_LONG;
    if (str_eq(h->target, STR("*")))
        return str_eq(h->method, STR("OPTIONS")) ? 0 : H1_E_TARGET;
    return url_is_origin_form(h->target) ? 0 : H1_E_TARGET;
}

/* :authority is the Host of this version (RFC 9113 8.3.1); a Host field beside it must say the
 * same. */
static int h2request_add_host(struct h2_inbox *inbox)
{
    struct head *h = &inbox->head;

    if (h->authority.n == 0 || head_find(h, STR("host")))
        return 0;
    return head_add(h, &inbox->arena, STR("host"), h->authority);
}

/* RFC 8441 4: with :protocol, CONNECT has a path, and is what GET with Upgrade is in HTTP/1.1; the
 * key and the accept are not used. */
static void h2request_take_websocket(struct h2_inbox *inbox)
{
    struct head *h = &inbox->head;

    if (!str_eq(h->method, STR("CONNECT")) || !str_eq(inbox->protocol, STR("websocket")))
        return;
    h->method = STR("GET");
    h->websocket = true;
    head_remove(h, STR("sec-websocket-key"));
    head_remove(h, STR("sec-websocket-accept"));
}

enum h2_verdict h2_check_request(struct h2_inbox *inbox, const struct h1_limits *limits,
    bool secure, bool last, struct h1_message *out, int *error)
{
    struct head *h = &inbox->head;
    bool connect;

    *error = 0;
    h2request_take_websocket(inbox);
    connect = str_eq(h->method, STR("CONNECT"));
    /* Fields that would mean something to an HTTP/1.1 server behind; nghttp2 stops the others. */
    if (head_find(h, STR("http2-settings")) || head_find(h, STR("proxy-connection")))
        return H2_RESET;
    /* What the connection is decides; a client that speaks of a TLS that ends before us may say
     * https in the clear, but nothing makes a TLS connection http. */
    if (!connect && !str_eq_nocase(inbox->scheme, STR("https")) &&
        (secure || !str_eq_nocase(inbox->scheme, STR("http"))))
        return H2_RESET;
    if (h2request_add_host(inbox) < 0)
        return H2_RESET;
    h->default_port = url_default_port(inbox->scheme);
    *error = h2request_check_target(h, limits);
    if (*error == 0)
        *error = h1_check_request(h, out);
    if (*error < 0)
        return H2_ANSWER;
    out->expects_continue = !last && head_find(h, STR("expect"));
    return H2_SERVE;
}
