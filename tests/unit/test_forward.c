/* Forwarding: what a peer may say about itself, what stays behind, and what the client gets of an
 * upstream's response. */
#include "exchange/forward.h"

#include <stdio.h>
#include <stdlib.h>

#include "conffile.h"
#include "fakestream.h"
#include "unit.h"
#include "upstream/rewrite.h"

#define CONF                                                                                       \
    "trusted_proxies = { \"10.0.0.0/8\", \"unix\" }\n"                                             \
    "listen \"127.0.0.1:8080\" { }\n"                                                              \
    "workers \"app\" { server \"127.0.0.1:8001\" { } }\n"                                          \
    "upstream \"ai\" { origin = \"https://api.example.com\" relay_headers = { \"X-Up\", \"Link\" " \
    "}\n"                                                                                          \
    "    set_header = { \"Authorization: Bearer conf\" } }\n"                                      \
    "upstream \"local\" { origin = \"http://127.0.0.1:8002\" }\n"                                  \
    "route \"/\" { workers = \"app\" }\n"

static struct conf *conf;
static struct arena arena;

static void set_up(void)
{
    conffile_open();
    conf = conffile_must_load(CONF);
}

static void tear_down(void)
{
    arena_release(&arena);
    conf_unref(conf);
    conffile_close();
}

/* "Name=value|Name=value" as fields. */
static struct head parse(const char *text)
{
    struct head h = { .status = 200, .minor = 1 };
    struct str rest = str_of(text), one, name, value;

    while (rest.n > 0) {
        str_cut(rest, '|', &one, &rest);
        str_cut(one, '=', &name, &value);
        ck_assert_int_eq(head_add(&h, &arena, name, value), 0);
    }
    return h;
}

static const char *text_of(const struct head *h)
{
    struct str s = STR("");

    for (size_t i = 0; i < h->nfields; i++)
        s = arena_printf(&arena, STR_FMT "%s" STR_FMT "=" STR_FMT, STR_ARG(s), i > 0 ? "|" : "",
            STR_ARG(h->fields[i].name), STR_ARG(h->fields[i].value));
    return s.p;
}

enum who { STRANGER, TRUSTED, LOCAL };

static struct str saved(const char *fields, enum who who, bool secure)
{
    struct fake_stream client;
    struct head in = parse(fields), out;

    fake_stream_init(&client);
    if (who == TRUSTED)
        memcpy(client.peer.ip, "\x0a\1\2\3", 4);
    else if (who == LOCAL)
        client.peer.family = AF_UNIX;
    client.stream.secure = secure;
    in.method = STR("GET");
    in.target = STR("/a?b");
    in.authority = STR("site.example");
    ck_assert_int_eq(
        forward_save_request(&arena, conf, &in, &client.stream, "request-id", &out), 0);
    ck_assert_span_eq(out.method, "GET");
    ck_assert_span_eq(out.target, "/a?b");
    ck_assert_span_eq(out.authority, "site.example");
    return str_of(text_of(&out));
}

#define OWN                                                                                        \
    "X-Forwarded-For=127.0.0.1|X-Forwarded-Proto=http|X-Forwarded-Host=site.example|X-Request-Id=" \
    "request-id"
#define BEHIND(list)                                                                               \
    "X-Forwarded-For=" list                                                                        \
    "|X-Forwarded-Proto=http|X-Forwarded-Host=site.example|X-Request-Id=request-id"
#define HTTPS                                                                                      \
    "X-Forwarded-For=10.1.2.3|X-Forwarded-Proto=https|X-Forwarded-Host=site.example|"              \
    "X-Request-Id=request-id"

static const struct {
    enum who who;
    const char *in, *out;
} requests[] = {
    { STRANGER, "", OWN },
    { STRANGER, "Accept=x|Cookie=a=b|Authorization=c", "Accept=x|Cookie=a=b|Authorization=c|" OWN },
    { STRANGER, "Cookie=a=b|Accept=x|cookie=c=d", "cookie=a=b; c=d|Accept=x|" OWN },
    /* What a stranger says about where it comes from is replaced, in every spelling. */
    { STRANGER, "X-Forwarded-For=1.2.3.4", OWN },
    { STRANGER, "x-forwarded-for=1.2.3.4|X_Forwarded_For=1.2.3.4|X-Forwarded_For=5", OWN },
    { STRANGER, "X.Forwarded.For=1.2.3.4", OWN },
    { STRANGER, "X-Forwarded-Proto=https|X-Forwarded-Host=evil|X-Forwarded-Port=1", OWN },
    { STRANGER, "Forwarded=for=1.2.3.4|X-Forwarded-Prefix=/x|X-Forwarded-Server=s", OWN },
    { STRANGER, "X-Forwarded-SSL=on|X-Forwarded-Scheme=https|X-Forwarded=x", OWN },
    { STRANGER, "X-Real-IP=1.2.3.4",
        "X-Forwarded-For=127.0.0.1|X-Forwarded-Proto=http|X-Forwarded-Host=site.example|X-Real-IP="
        "127.0.0.1|X-Request-Id=request-id" },
    { STRANGER, "X-Forwarded-Email=a@b|x-forwarded-user=root|X-Forwarded-=1", OWN },
    { STRANGER, "X~Forwarded~For=1.2.3.4|X-Forwarded!Preferred-Username=x|X*Real*IP=5", OWN },
    { STRANGER, "Forwarded-For=1|X-Forwardedness=2", "Forwarded-For=1|X-Forwardedness=2|" OWN },
    /* A trusted peer is believed, and named behind the others. */
    { TRUSTED, "", BEHIND("10.1.2.3") },
    { TRUSTED, "X-Forwarded-For=1.2.3.4", BEHIND("1.2.3.4, 10.1.2.3") },
    { TRUSTED, "X-Forwarded-For=1.2.3.4, 5.6.7.8|x-forwarded-for=|X-FORWARDED-FOR=9",
        BEHIND("1.2.3.4, 5.6.7.8, 9, 10.1.2.3") },
    { TRUSTED, "X-Forwarded-Proto=https|X-Forwarded-Host=outer|X-Real-IP=1.2.3.4",
        "X-Forwarded-For=10.1.2.3|X-Forwarded-Proto=https|X-Forwarded-Host=outer|X-Real-IP=1.2.3.4|"
        "X-Request-Id=request-id" },
    { TRUSTED, "X_Forwarded_For=1.2.3.4|X_Forwarded_Proto=https", BEHIND("10.1.2.3") },
    { LOCAL, "X-Forwarded-For=1.2.3.4", BEHIND("1.2.3.4, unix") },
    /* Its Forwarded gets the peer added, and says what the older fields do not. */
    { TRUSTED, "Forwarded=for=1.2.3.4;proto=https;host=outer",
        "X-Forwarded-For=1.2.3.4, 10.1.2.3|X-Forwarded-Proto=https|X-Forwarded-Host=outer|"
        "Forwarded=for=1.2.3.4;proto=https;host=outer, for=10.1.2.3|X-Request-Id=request-id" },
    { TRUSTED,
        "forwarded=For=\"[2001:db8::1]:4711\"|Forwarded=for=_hidden;by=x, for=5.6.7.8;proto=https",
        "X-Forwarded-For=2001:db8::1, _hidden, 5.6.7.8, "
        "10.1.2.3|X-Forwarded-Proto=http|X-Forwarded-Host=site.example|Forwarded=For=\"[2001:db8::"
        "1]"
        ":4711\", for=_hidden;by=x, for=5.6.7.8;proto=https, "
        "for=10.1.2.3|X-Request-Id=request-id" },
    { TRUSTED, "Forwarded=for=1.2.3.4;proto=https|X-Forwarded-For=5.6.7.8|X-Forwarded-Proto=http",
        BEHIND("5.6.7.8, 10.1.2.3") }, /* two schemes: the older word is told */
    { LOCAL, "Forwarded=proto=https",
        "X-Forwarded-For=unix|X-Forwarded-Proto=https|X-Forwarded-Host=site.example|"
        "Forwarded=proto=https, for=unknown|X-Request-Id=request-id" },
    /* Balancers that know other fields for the scheme; one is told, and nothing against it. */
    { TRUSTED, "X-Forwarded-Ssl=on", "X-Forwarded-Ssl=on|" HTTPS },
    { TRUSTED, "X-Forwarded-Ssl=off", "X-Forwarded-Ssl=off|" BEHIND("10.1.2.3") },
    { TRUSTED, "X-Forwarded-Scheme=HTTPS", "X-Forwarded-Scheme=HTTPS|" HTTPS },
    { TRUSTED, "X-Forwarded-Protocol=ssl", "X-Forwarded-Protocol=ssl|" HTTPS },
    { TRUSTED, "X-Forwarded-Proto=https|X-Forwarded-Ssl=off", HTTPS },
    { TRUSTED, "X-Forwarded-Proto=http|X-Forwarded-Ssl=on|X-Forwarded-Scheme=https",
        BEHIND("10.1.2.3") },
    { TRUSTED, "X-Forwarded-Ssl=on|X-Forwarded-Scheme=http", "X-Forwarded-Ssl=on|" HTTPS },
    { TRUSTED, "X-Forwarded-Ssl=yes", BEHIND("10.1.2.3") },
    { TRUSTED, "X_Forwarded_Ssl=on|X.Forwarded-Ssl=on", BEHIND("10.1.2.3") },
    { TRUSTED, "X-Forwarded-Ssl=on|Forwarded=proto=http", "X-Forwarded-Ssl=on|" HTTPS },
    { TRUSTED, "X-Forwarded-Prefix=/x", "X-Forwarded-Prefix=/x|" BEHIND("10.1.2.3") },
    /* A malformed word is none, whoever says it. */
    { TRUSTED, "Forwarded=for=1.2.3.4;proto=gopher", BEHIND("10.1.2.3") },
    { TRUSTED, "Forwarded=for=1.2.3.4, for=\"", BEHIND("10.1.2.3") },
    { TRUSTED, "X-Forwarded-For=1.2.3.4, \"><script>|X-Real-IP=<x>",
        "X-Forwarded-For=10.1.2.3|X-Forwarded-Proto=http|X-Forwarded-Host=site.example|X-Real-IP="
        "10.1.2.3|X-Request-Id=request-id" },
    { TRUSTED, "X-Forwarded-Proto=javascript|X-Forwarded-Host=a@b|X-Forwarded-Port=http",
        BEHIND("10.1.2.3") },
    { TRUSTED, "X-Forwarded-Proto=https, http|X-Forwarded-Host=a:1, b|X-Forwarded-Port=443",
        "X-Forwarded-For=10.1.2.3|X-Forwarded-Proto=https, http|X-Forwarded-Host=a:1, b|"
        "X-Forwarded-Port=443|X-Request-Id=request-id" },
    { TRUSTED, "X-Real-IP=1.2.3.4|X-Real-IP=5.6.7.8",
        "X-Forwarded-For=10.1.2.3|X-Forwarded-Proto=http|X-Forwarded-Host=site.example|X-Real-IP="
        "10.1.2.3|X-Request-Id=request-id" },
    /* Tarry's own names, in every spelling that an environment folds to them */
    { STRANGER,
        "Tarry-Version=1|TARRY-KIND=resume|tarry_hop=1|Tarry.State=s|tArRy_-.x=y|tarry~auth=z|"
        "Tarry!Kind=k",
        OWN },
    { TRUSTED, "Tarry-Version=1|tarry_hop=1", BEHIND("10.1.2.3") },
    { STRANGER, "Tarryish=1|X-Tarry-Kind=2", "Tarryish=1|X-Tarry-Kind=2|" OWN },
    /* What belongs to the connection, what Connection names, framing */
    { STRANGER, "Connection=keep-alive, X-Mine|X-Mine=1|Keep-Alive=5|X-Other=2", "X-Other=2|" OWN },
    { STRANGER, "Transfer-Encoding=chunked|TE=x|Trailer=y|Upgrade=h2c|Proxy-Authorization=p", OWN },
    { STRANGER, "Host=other|Content-Length=5|Expect=100-continue", OWN },
    { STRANGER, "Content-Type=text/plain|Range=x", "Content-Type=text/plain|Range=x|" OWN },
    { STRANGER, "Proxy=http://evil/|PROXY=x", OWN },
    /* The request's id: the client's if it is one and harmless */
    { STRANGER, "X-Request-Id=a-b_c.d:e/f+g=@",
        "X-Forwarded-For=127.0.0.1|X-Forwarded-Proto=http|X-Forwarded-Host=site.example|X-Request-"
        "Id=a-b_c.d:e/f+g=@" },
    { STRANGER, "X-Request-Id=a b", OWN },
    { STRANGER, "X-Request-Id=", OWN },
    { STRANGER, "X-Request-Id=a\"b", OWN },
    { STRANGER, "X-Request-Id=a|X-Request-Id=b", OWN },
    { STRANGER, "X_Request_Id=a", OWN },
    { STRANGER, "traceparent=00-1-2-01|tracestate=x", "traceparent=00-1-2-01|tracestate=x|" OWN },
};

START_TEST(passes_on_what_a_peer_may_say)
{
    struct str out = saved(requests[_i].in, requests[_i].who, false);

    ck_assert_str_eq(out.p, requests[_i].out);
}
END_TEST

START_TEST(says_whether_the_client_came_over_tls)
{
    ck_assert_ptr_nonnull(strstr(saved("", STRANGER, true).p, "X-Forwarded-Proto=https|"));
    ck_assert_ptr_nonnull(
        strstr(saved("X-Forwarded-Proto=http", STRANGER, true).p, "X-Forwarded-Proto=https|"));
}
END_TEST

START_TEST(bounds_the_requests_id)
{
    char text[200];

    snprintf(text, sizeof(text), "X-Request-Id=%0128d", 7);
    ck_assert_ptr_nonnull(strstr(saved(text, STRANGER, false).p, text));
    snprintf(text, sizeof(text), "X-Request-Id=%0129d", 7);
    ck_assert_ptr_null(strstr(saved(text, STRANGER, false).p, text));
}
END_TEST

static const struct {
    enum underscore_policy policy;
    const char *out;
} underscores[] = {
    { UNDERSCORE_DROP, "X-B=2|" OWN },
    { UNDERSCORE_REFUSE, "X-B=2|" OWN }, /* refused before it gets here */
    { UNDERSCORE_PASS, "X_A=1|X-B=2|" OWN },
};

START_TEST(has_a_policy_for_underscores)
{
    conf->underscore_headers = underscores[_i].policy;
    ck_assert_str_eq(
        saved("X_A=1|X-B=2|tarry_x=3|x_forwarded_for=4|X_Request_Id=5", STRANGER, false).p,
        underscores[_i].out);
}
END_TEST

/* The worker judges: it gets what the peer has sent, and from whom. */
START_TEST(passes_on_what_the_peer_says)
{
    static const struct {
        enum who who;
        bool secure;
        const char *in, *out;
    } rows[] = {
        { STRANGER, false, "X-Forwarded-For=1.2.3.4|Forwarded=for=x|X-Real-IP=<x>",
            "X-Forwarded-For=1.2.3.4|Forwarded=for=x|X-Real-IP=<x>|Tarry-Peer=127.0.0.1:40000|"
            "Tarry-Scheme=http|X-Request-Id=request-id" },
        { TRUSTED, true, "X-Forwarded-Proto=http",
            "X-Forwarded-Proto=http|Tarry-Peer=10.1.2.3:40000|Tarry-Scheme=https|X-Request-Id="
            "request-id" },
        { LOCAL, false, "Tarry-Peer=1.2.3.4:5|tarry_scheme=https|X_Forwarded_For=1.2.3.4",
            "Tarry-Peer=unix|Tarry-Scheme=http|X-Request-Id=request-id" },
    };

    conf->forwarded_headers = FORWARDED_PASS;
    for (int i = 0; i < COUNT_OF(rows); i++)
        ck_assert_str_eq(saved(rows[i].in, rows[i].who, rows[i].secure).p, rows[i].out);
}
END_TEST

START_TEST(knows_what_describes_a_body)
{
    static const char *const yes[] = { "Content-Type", "CONTENT-LENGTH", "content-md5", "If-Match",
        "if-modified-since", "Range", "expect", "Trailer", "Transfer-Encoding" };
    static const char *const no[] = { "Accept", "Cookie", "Authorization", "Content", "If",
        "Ranges", "X-Content-Type" };

    for (int i = 0; i < COUNT_OF(yes); i++)
        ck_assert_msg(forward_describes_body(str_of(yes[i])), "%s", yes[i]);
    for (int i = 0; i < COUNT_OF(no); i++)
        ck_assert_msg(!forward_describes_body(str_of(no[i])), "%s", no[i]);
}
END_TEST

START_TEST(tells_a_worker_of_the_hop)
{
    struct forward_hop hop = { .exchange = "abc",
        .hop = 3,
        .kind = STR("resume"),
        .started_wall_ms = 1700000000042,
        .state = STR("s"),
        .attempt = 1 };
    struct head h = { 0 };

    ck_assert_int_eq(forward_add_tarry(&h, &arena, conf, &conf->pools[0], &hop), 0);
    ck_assert_str_eq(text_of(&h),
        "Tarry-Version=1|Tarry-Features=relay, resume, replay, notify, on-error, keep-alive, wait|"
        "Tarry-Exchange=abc|Tarry-Hop=3|Tarry-Started=1700000000.042|Tarry-Kind=resume|"
        "Tarry-Limits=max-hops=64, max-calls=64, replay-body=10485760, call=33554432, state=8000, "
        "wait=60|"
        "Tarry-Origins=https://api.example.com, http://127.0.0.1:8002|Tarry-State=s");
    h = (struct head){ 0 };
    hop = (struct forward_hop){ .exchange = "abc",
        .hop = 1,
        .kind = STR("notify"),
        .outcome = STR("truncated"),
        .attempt = 2 };
    conf->pools[0].secret = arena_copy(&conf->arena, STR("hush")); /* it is wiped in the end */
    ck_assert_int_eq(forward_add_tarry(&h, &arena, conf, &conf->pools[0], &hop), 0);
    ck_assert(!head_find(&h, STR("tarry-state")));
    ck_assert_span_eq(head_value(&h, STR("tarry-attempt")), "2");
    ck_assert_span_eq(head_value(&h, STR("tarry-outcome")), "truncated");
    ck_assert_span_eq(head_value(&h, STR("tarry-auth")), "hush");
    ck_assert_span_eq(head_value(&h, STR("tarry-started")), "0.000");
}
END_TEST

START_TEST(gives_the_client_a_workers_response)
{
    struct head in =
                    parse("Content-Type=a|Set-Cookie=b=c|Tarry-Then=relay|tarry_state=s|Connection="
                          "close, X-Mine|X-Mine=1|Keep-Alive=5|Content-Length=3"),
                out;

    in.status = 404;
    ck_assert_int_eq(forward_worker_response(&arena, &in, &out), 0);
    ck_assert_uint_eq(out.status, 404);
    ck_assert_str_eq(text_of(&out), "Content-Type=a|Set-Cookie=b=c|Content-Length=3");
}
END_TEST

static const struct {
    const char *upstream, *handoff, *out;
} relays[] = {
    { "Content-Type=a|Content-Encoding=gzip|Content-Length=7|Cache-Control=b|Retry-After=c", "",
        "Content-Type=a|Content-Encoding=gzip|Content-Length=7|Retry-After=c|Cache-Control=b" },
    { "Content-Range=bytes 0-6/9|Content-Length=7", "Content-Range=bytes 1-2/3",
        "Content-Range=bytes 0-6/9|Content-Length=7" },
    /* Cache-Control: the service's, or the handoff's; never less strict than the handoff's */
    { "Cache-Control=max-age=60", "Cache-Control=max-age=5", "Cache-Control=max-age=60" },
    { "", "Cache-Control=max-age=5", "Cache-Control=max-age=5" },
    { "Cache-Control=max-age=60", "Cache-Control=Private, no-store",
        "Cache-Control=max-age=60|Cache-Control=no-store|Cache-Control=private" },
    { "Cache-Control=no-store", "Cache-Control=no-store, private",
        "Cache-Control=no-store|Cache-Control=private" },
    { "Set-Cookie=up=1|Server=s|X-Request-Id=r|Access-Control-Allow-Origin=*|Strict-Transport-"
      "Security=x|Link=l",
        "", "Link=l" },
    { "", "Set-Cookie=a=b|Access-Control-Allow-Origin=*|X-Frame-Options=DENY|Vary=Cookie",
        "Set-Cookie=a=b|Access-Control-Allow-Origin=*|X-Frame-Options=DENY|Vary=Cookie" },
    /* What tells of the handoff's own body does not tell of the relayed one. */
    { "Content-Type=text/event-stream",
        "Content-Type=application/http|Content-Length=80|Content-Encoding=gzip|ETag=x|"
        "Cache-Control=private|Retry-After=1|Last-Modified=y|Content-Language=de|X=y",
        "X=y|Content-Type=text/event-stream|Cache-Control=private" },
    { "", "Content-Security-Policy=a|Content-Security-Policy-Report-Only=b",
        "Content-Security-Policy=a|Content-Security-Policy-Report-Only=b" },
    /* What relay_headers names comes from the upstream alone. */
    { "x-up=1|X-UP=2", "X-Up=mine|Link=mine", "x-up=1|X-UP=2" },
    /* Tarry's own and hop-by-hop fields of both sides */
    { "Tarry-Outcome=x|Content-Type=a|Connection=content-type", "Tarry-Then=relay|X=y|Connection=x",
        "" },
};

START_TEST(composes_a_relays_head)
{
    struct head upstream = parse(relays[_i].upstream), handoff = parse(relays[_i].handoff), out;

    upstream.status = 429;
    upstream.reason = STR("Slow down");
    ck_assert_int_eq(
        forward_relay_response(&arena, &upstream, &handoff, &conf->upstreams[0], &out), 0);
    ck_assert_uint_eq(out.status, 429);
    ck_assert_uint_eq(out.reason.n, 0);
    ck_assert_str_eq(text_of(&out), relays[_i].out);
}
END_TEST

START_TEST(is_a_gateway)
{
    struct head in = parse("Accept=x|Cookie=a=b|COOKIE=c|Authorization=theirs|Tarry-X=y"), out;

    in.target = STR("/");
    ck_assert_int_eq(forward_gateway_request(&arena, &in, &out), 0);
    ck_assert_int_eq(rewrite_head(&arena, &conf->upstreams[0].endpoints[0], &out), 0);
    ck_assert_str_eq(text_of(&out), "Accept=x|Authorization=Bearer conf");
    ck_assert_span_eq(out.authority, "api.example.com");
    ck_assert_int_eq(forward_gateway_request(&arena, &in, &out), 0);
    ck_assert_int_eq(rewrite_head(&arena, &conf->upstreams[1].endpoints[0], &out), 0);
    ck_assert_str_eq(text_of(&out), "Accept=x|Authorization=theirs");
    ck_assert_span_eq(out.authority, "127.0.0.1:8002");
    in = parse("Set-Cookie=a=b|Server=s|Connection=close|Tarry-Y=z");
    ck_assert_int_eq(forward_gateway_response(&arena, &in, &out), 0);
    ck_assert_str_eq(text_of(&out), "Set-Cookie=a=b|Server=s");
}
END_TEST

/* Handoff responses one after the other, and the final one. */
static const struct {
    const char *handoffs[3], *final, *out;
} cookies[] = {
    { { NULL }, "A=b", "A=b" },
    { { "A=b" }, "C=d", "C=d" },
    { { "Set-Cookie=s=1; Path=/" }, "A=b", "A=b|Set-Cookie=s=1; Path=/" },
    { { "Set-Cookie=s=1|set-cookie=t=2" }, "", "Set-Cookie=s=1|Set-Cookie=t=2" },
    /* Of the same name the last one counts. */
    { { "Set-Cookie=s=1" }, "Set-Cookie=s=2", "Set-Cookie=s=2" },
    { { "Set-Cookie=s=1", "Set-Cookie=s=2|Set-Cookie=t=3", "X=y" }, "",
        "Set-Cookie=s=2|Set-Cookie=t=3" },
    { { "Set-Cookie=s=1|Set-Cookie=t=1", "Set-Cookie=t=2" }, "SET-COOKIE=s=3",
        "SET-COOKIE=s=3|Set-Cookie=t=2" },
    { { "Set-Cookie= s =1" }, "Set-Cookie=s=2", "Set-Cookie=s=2" },
    /* Names differ by case; one that only begins the same is another. */
    { { "Set-Cookie=s=1" }, "Set-Cookie=S=2|Set-Cookie=ss=3",
        "Set-Cookie=S=2|Set-Cookie=ss=3|Set-Cookie=s=1" },
    /* Two of one name in one response are that response's business. */
    { { "Set-Cookie=s=1; Path=/a|Set-Cookie=s=2; Path=/b" }, "",
        "Set-Cookie=s=1; Path=/a|Set-Cookie=s=2; Path=/b" },
};

START_TEST(keeps_cookies_for_the_final_response)
{
    struct head *kept = NULL, final = parse(cookies[_i].final);

    for (int i = 0; i < 3 && cookies[_i].handoffs[i]; i++) {
        struct head h = parse(cookies[_i].handoffs[i]);

        ck_assert_int_eq(forward_keep_cookies(&arena, &kept, &h), 0);
    }
    ck_assert_int_eq(forward_add_cookies(&arena, kept, &final), 0);
    ck_assert_str_eq(text_of(&final), cookies[_i].out);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("forward");

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, passes_on_what_a_peer_may_say, 0, COUNT_OF(requests));
    tcase_add_test(t, says_whether_the_client_came_over_tls);
    tcase_add_test(t, bounds_the_requests_id);
    tcase_add_loop_test(t, has_a_policy_for_underscores, 0, COUNT_OF(underscores));
    tcase_add_test(t, passes_on_what_the_peer_says);
    tcase_add_test(t, knows_what_describes_a_body);
    tcase_add_test(t, tells_a_worker_of_the_hop);
    tcase_add_test(t, gives_the_client_a_workers_response);
    tcase_add_loop_test(t, composes_a_relays_head, 0, COUNT_OF(relays));
    tcase_add_test(t, is_a_gateway);
    tcase_add_loop_test(t, keeps_cookies_for_the_final_response, 0, COUNT_OF(cookies));
    return t;
}

UNIT_MAIN("forward")
