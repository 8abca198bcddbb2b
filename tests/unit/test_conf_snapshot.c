/* Finding things in a snapshot. */
#include "conf/snapshot.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "conffile.h"
#include "unit.h"

#define REST                                                                                       \
    "listen \"127.0.0.1:8080\" { }\n"                                                              \
    "workers \"app\" { server \"127.0.0.1:8001\" { } }\n"                                          \
    "workers \"b\" { server \"127.0.0.1:8002\" { } }\n"

static const char routes[] = "route \"/\" { workers = \"app\" }\n"
                             "route \"/internal/\" { workers = \"app\" internal = true }\n"
                             "route \"/a\" { workers = \"b\" }\n"
                             "route \"/a/long/prefix/of/all\" { workers = \"b\" }\n"
                             "route \"/v1/\" { host = \"Llm.Example.com\" workers = \"b\" }\n"
                             "route \"/v1/x/\" { host = \"llm.example.com\" workers = \"app\" }\n"
                             "route \"/v1/y/\" { workers = \"app\" }\n"
                             "route \"/v1/\" { host = \"[::1]\" workers = \"b\" }\n"
                             "route \"/\" { host = \"only.example.com\" workers = \"b\" }\n" REST;

static const struct {
    const char *host, *path, *prefix, *route_host;
} lookups[] = {
    { "", "/", "/", "" },
    { "x.example", "/foo", "/", "" },
    { "x.example", "/internal", "/", "" },
    { "x.example", "/internal/", "/internal/", "" },
    { "x.example", "/internal/x", "/internal/", "" },
    { "x.example", "/a", "/a", "" },
    { "x.example", "/abc", "/a", "" }, /* a prefix is of bytes, not of segments */
    { "x.example", "/a/long/prefix/of/all/x", "/a/long/prefix/of/all", "" },
    { "x.example", "/a/long/prefix/of", "/a", "" },
    { "llm.example.com", "/v1/foo", "/v1/", "llm.example.com" },
    { "LLM.example.COM", "/v1/foo", "/v1/", "llm.example.com" },
    { "llm.example.com.", "/v1/foo", "/v1/", "llm.example.com" },
    { "llm.example.com", "/v1/x/1", "/v1/x/", "llm.example.com" },
    { "llm.example.com", "/v1/y/1", "/v1/", "llm.example.com" }, /* host goes before length */
    { "other.example", "/v1/y/1", "/v1/y/", "" },
    { "llm.example.com", "/v1", "/", "" },
    { "llm.example.com.evil.example", "/v1/foo", "/", "" },
    { "[::1]", "/v1/", "/v1/", "::1" },
    { "::1", "/v1/", "/v1/", "::1" },
    { "only.example.com", "/internal/", "/", "only.example.com" },
};

START_TEST(finds_routes)
{
    struct conf *c = conffile_must_load(routes);
    const struct route_conf *r =
        conf_find_route(c, str_of(lookups[_i].host), str_of(lookups[_i].path));

    ck_assert_ptr_nonnull(r);
    ck_assert_span_eq(r->prefix, lookups[_i].prefix);
    ck_assert_span_eq(r->host, lookups[_i].route_host);
    conf_unref(c);
}
END_TEST

START_TEST(finds_no_route_where_none_is)
{
    struct conf *c = conffile_must_load(
        "route \"/a/\" { workers = \"app\" }\nroute \"/\" { host = \"h\" workers = \"b\" }\n" REST);

    ck_assert_ptr_null(conf_find_route(c, STR("x"), STR("/")));
    ck_assert_ptr_null(conf_find_route(c, STR("x"), STR("/A/")));
    ck_assert_ptr_null(conf_find_route(c, STR(""), STR("/b/")));
    ck_assert_ptr_null(conf_find_route(c, STR("x"), STR("")));
    ck_assert_ptr_nonnull(conf_find_route(c, STR("h"), STR("/")));
    conf_unref(c);
}
END_TEST

static const struct {
    const char *scheme, *host;
    unsigned port;
    const char *name; /* NULL: none */
} origins[] = {
    { "https", "api.example.com", 0, "https" },
    { "HTTPS", "API.example.COM", 443, "https" },
    { "https", "api.example.com", 444, NULL },
    { "https", "api.example.com", 80, NULL },
    { "http", "api.example.com", 443, NULL },
    { "http", "127.0.0.1", 8000, "plain" },
    { "http", "127.0.0.1", 0, NULL },
    { "http", "localhost", 8000, NULL },
    { "http", "fd00::1", 0, "v6" },
    { "http", "FD00:0::0001", 80, "v6" },
    { "http", "fd00::2", 80, NULL },
    { "https", "api.example.com.evil.example", 0, NULL },
    { "https", "example.com", 0, NULL },
    { "ftp", "api.example.com", 0, NULL },
    { "", "", 0, NULL },
};

START_TEST(finds_origins)
{
    struct conf *c =
        conffile_must_load("upstream \"https\" { origin = \"https://api.example.com\" }\n"
                           "upstream \"plain\" { origin = \"http://127.0.0.1:8000\" }\n"
                           "upstream \"v6\" { origin = \"http://[fd00::1]\" }\n"
                           "route \"/\" { workers = \"app\" }\n" REST);
    const struct upstream_conf *u = conf_find_origin(
        c, str_of(origins[_i].scheme), str_of(origins[_i].host), (uint16_t)origins[_i].port);

    if (origins[_i].name) {
        ck_assert_ptr_nonnull(u);
        ck_assert_span_eq(u->name, origins[_i].name);
    } else {
        ck_assert_ptr_null(u);
    }
    conf_unref(c);
}
END_TEST

START_TEST(finds_by_name)
{
    struct conf *c = conffile_must_load("upstream \"ai\" { origin = \"https://a.example\" }\nroute "
                                        "\"/\" { workers = \"app\" }\n" REST);

    ck_assert_ptr_eq(conf_find_upstream(c, STR("ai")), &c->upstreams[0]);
    ck_assert_ptr_null(conf_find_upstream(c, STR("AI")));
    ck_assert_ptr_null(conf_find_upstream(c, STR("app")));
    ck_assert_ptr_eq(conf_find_pool(c, STR("b")), &c->pools[1]);
    ck_assert_ptr_null(conf_find_pool(c, STR("")));
    conf_unref(c);
}
END_TEST

static const struct {
    const char *trusted, *peer; /* peer "unix": a unix socket */
    bool trusts;
} peers[] = {
    { "\"127.0.0.1/32\"", "127.0.0.1", true },
    { "\"127.0.0.1\"", "127.0.0.1", true },
    { "\"127.0.0.1/32\"", "127.0.0.2", false },
    { "\"10.0.0.0/8\"", "10.255.255.255", true },
    { "\"10.0.0.0/8\"", "11.0.0.0", false },
    { "\"10.128.0.0/9\"", "10.128.0.1", true },
    { "\"10.128.0.0/9\"", "10.127.255.255", false },
    { "\"192.0.2.4/30\"", "192.0.2.7", true },
    { "\"192.0.2.4/30\"", "192.0.2.8", false },
    { "\"0.0.0.0/0\"", "8.8.8.8", true },
    { "\"0.0.0.0/0\"", "::1", false },
    { "\"::/0\"", "2001:db8::1", true },
    { "\"::/0\"", "unix", false },
    { "\"fd00::/8\"", "fdff::1", true },
    { "\"fd00::/8\"", "fe80::1", false },
    { "\"10.0.0.0/8\"", "::ffff:10.1.2.3", true }, /* how a dual-stack listener sees an IPv4 peer */
    { "\"::ffff:10.0.0.0/104\"", "10.1.2.3", true },
    { "\"::ffff:10.0.0.0/104\"", "11.1.2.3", false },
    { "\"::1\"", "::1", true },
    { "\"unix\"", "unix", true },
    { "\"unix\"", "127.0.0.1", false },
    { "\"10.0.0.0/8\", \"unix\", \"::1\"", "::1", true },
    { "", "127.0.0.1", false },
    { "", "unix", false },
};

START_TEST(trusts_whom_it_is_told_to)
{
    char text[512];
    struct conf *c;
    struct sockaddr_storage sa = { .ss_family = AF_UNIX };
    struct sockaddr_in *in = (void *)&sa;
    struct sockaddr_in6 *in6 = (void *)&sa;

    snprintf(text, sizeof(text), "trusted_proxies = { %s }\nroute \"/\" { workers = \"app\" }\n%s",
        peers[_i].trusted, REST);
    c = conffile_must_load(text);
    if (inet_pton(AF_INET, peers[_i].peer, &in->sin_addr) == 1)
        sa.ss_family = AF_INET;
    else if (inet_pton(AF_INET6, peers[_i].peer, &in6->sin6_addr) == 1)
        sa.ss_family = AF_INET6;
    ck_assert_msg(conf_trusts(c, (struct sockaddr *)&sa) == peers[_i].trusts, "%s and %s",
        peers[_i].trusted, peers[_i].peer);
    conf_unref(c);
}
END_TEST

START_TEST(lives_as_long_as_its_references)
{
    struct conf *c = conffile_must_load("route \"/\" { workers = \"app\" }\n" REST);

    ck_assert_ptr_eq(conf_ref(c), c);
    ck_assert_uint_eq(c->refs, 2);
    conf_unref(c);
    ck_assert_uint_eq(c->refs, 1);
    ck_assert_span_eq(c->pools[0].name, "app");
    conf_unref(c);
    conf_unref(NULL);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("snapshot");

    tcase_add_checked_fixture(t, conffile_open, conffile_close);
    tcase_add_loop_test(t, finds_routes, 0, COUNT_OF(lookups));
    tcase_add_test(t, finds_no_route_where_none_is);
    tcase_add_loop_test(t, finds_origins, 0, COUNT_OF(origins));
    tcase_add_test(t, finds_by_name);
    tcase_add_loop_test(t, trusts_whom_it_is_told_to, 0, COUNT_OF(peers));
    tcase_add_test(t, lives_as_long_as_its_references);
    return t;
}

UNIT_MAIN("conf_snapshot")
