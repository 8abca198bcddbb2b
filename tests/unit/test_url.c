/* URLs, authorities, and the paths that routes are compared with. */
#include "base/url.h"

#include "cuts.h"
#include "unit.h"

static const struct {
    const char *in;
    int rc;
    const char *scheme, *host;
    bool ipv6;
    unsigned port;
    const char *target;
} urls[] = {
    { "https://api.openai.com/v1/x?a=b", 0, "https", "api.openai.com", false, 0, "/v1/x?a=b" },
    { "https://h", 0, "https", "h", false, 0, "/" },
    { "HTTP://h:8080/", 0, "HTTP", "h", false, 8080, "/" },
    { "tarry://open_ai/v1", 0, "tarry", "open_ai", false, 0, "/v1" },
    { "http://[::1]:81/x", 0, "http", "::1", true, 81, "/x" },
    { "http://[fd00::1]", 0, "http", "fd00::1", true, 0, "/" },
    { "http://127.0.0.1:1/a//b/../c", 0, "http", "127.0.0.1", false, 1, "/a//b/../c" },
    { "http://h:65535/", 0, "http", "h", false, 65535, "/" },
    { "https://h?a=b/c", 0, "https", "h", false, 0, "?a=b/c" },
    { "https://h/\xc3\xa4", URL_E_TARGET, "", "", false, 0, "" },
    { "h/x", URL_E_SCHEME, "", "", false, 0, "" },
    { "/x", URL_E_SCHEME, "", "", false, 0, "" },
    { "", URL_E_SCHEME, "", "", false, 0, "" },
    { "://h/", URL_E_SCHEME, "", "", false, 0, "" },
    { "https:/h/", URL_E_SCHEME, "", "", false, 0, "" },
    { "ht tp://h/", URL_E_SCHEME, "", "", false, 0, "" },
    { "https://u@h/", URL_E_USERINFO, "", "", false, 0, "" },
    { "https://good.example@evil.example/", URL_E_USERINFO, "", "", false, 0, "" },
    { "https:///x", URL_E_HOST, "", "", false, 0, "" },
    { "https://:80/", URL_E_HOST, "", "", false, 0, "" },
    { "https://a b/", URL_E_HOST, "", "", false, 0, "" },
    { "https://a\r\nb/", URL_E_HOST, "", "", false, 0, "" },
    { "https://a%2eb/", URL_E_HOST, "", "", false, 0, "" },
    { "https://a\\b/", URL_E_HOST, "", "", false, 0, "" },
    { "https://[::1/", URL_E_HOST, "", "", false, 0, "" },
    { "https://[::1]x/", URL_E_HOST, "", "", false, 0, "" },
    { "https://[fe80::1%25eth0]/", URL_E_HOST, "", "", false, 0, "" },
    { "https://[]/", URL_E_HOST, "", "", false, 0, "" },
    { "https://::1/", URL_E_HOST, "", "", false, 0, "" },
    { "https://h:/", URL_E_PORT, "", "", false, 0, "" },
    { "https://h:0/", URL_E_PORT, "", "", false, 0, "" },
    { "https://h:65536/", URL_E_PORT, "", "", false, 0, "" },
    { "https://h:+80/", URL_E_PORT, "", "", false, 0, "" },
    { "https://h:80:80/", URL_E_PORT, "", "", false, 0, "" },
    { "https://a,b/", URL_E_HOST, "", "", false, 0, "" },
    { "https://[::1]:/", URL_E_PORT, "", "", false, 0, "" },
    { "https://h/a\"b", URL_E_TARGET, "", "", false, 0, "" },
    { "https://h/a b", URL_E_TARGET, "", "", false, 0, "" },
    { "https://h/a\tb", URL_E_TARGET, "", "", false, 0, "" },
    { "https://h/a\nb", URL_E_TARGET, "", "", false, 0, "" },
    { "https://h/a#b", URL_E_FRAGMENT, "", "", false, 0, "" },
    { "https://h#b", URL_E_FRAGMENT, "", "", false, 0, "" },
};

START_TEST(splits_urls)
{
    struct str in = cuts_guarded(str_of(urls[_i].in));
    struct url u;
    int rc = url_parse(in, &u);

    ck_assert_msg(rc == urls[_i].rc, "%s: %d", urls[_i].in, rc);
    if (rc < 0) {
        ck_assert_str_ne(url_strerror(rc), "");
        return;
    }
    ck_assert_span_eq(u.scheme, urls[_i].scheme);
    ck_assert_span_eq(u.host, urls[_i].host);
    ck_assert_int_eq(u.ipv6, urls[_i].ipv6);
    ck_assert_uint_eq(u.port, urls[_i].port);
    ck_assert_span_eq(u.target, urls[_i].target);
}
END_TEST

START_TEST(reads_host_fields)
{
    struct str host;
    uint16_t port;
    bool ipv6;

    ck_assert_int_eq(
        url_parse_authority(cuts_guarded(STR("example.com:443")), &host, &ipv6, &port), 0);
    ck_assert_span_eq(host, "example.com");
    ck_assert_uint_eq(port, 443);
    ck_assert_int_eq(url_parse_authority(cuts_guarded(STR("[::1]")), &host, &ipv6, &port), 0);
    ck_assert(ipv6);
    ck_assert_uint_eq(port, 0);
    ck_assert_int_eq(url_parse_authority(STR(""), &host, &ipv6, &port), URL_E_HOST);
    ck_assert_int_eq(url_parse_authority(STR("a/b"), &host, &ipv6, &port), URL_E_HOST);
    ck_assert_int_eq(url_parse_authority(STR("a,b"), &host, &ipv6, &port), URL_E_HOST);
    ck_assert_int_eq(url_parse_authority(STR("a%41"), &host, &ipv6, &port), URL_E_HOST);
    ck_assert_int_eq(url_parse_authority(STR(":80"), &host, &ipv6, &port), URL_E_HOST);
    /* RFC 3986 3.2.2 and 3.2.3 */
    ck_assert_int_eq(
        url_parse_authority(cuts_guarded(STR("a!$&'()*+;=~_b:")), &host, &ipv6, &port), 0);
    ck_assert_span_eq(host, "a!$&'()*+;=~_b");
    ck_assert_uint_eq(port, 0);
    ck_assert_int_eq(url_parse_authority(cuts_guarded(STR("[::1]:")), &host, &ipv6, &port), 0);
    ck_assert_span_eq(host, "::1");
}
END_TEST

START_TEST(knows_default_ports)
{
    ck_assert_uint_eq(url_default_port(STR("HTTPS")), 443);
    ck_assert_uint_eq(url_default_port(STR("http")), 80);
    ck_assert_uint_eq(url_default_port(STR("tarry")), 0);
}
END_TEST

START_TEST(knows_origin_form)
{
    ck_assert(url_is_origin_form(STR("/")));
    ck_assert(url_is_origin_form(STR("/a?b=c&d=%zz")));
    ck_assert(!url_is_origin_form(STR("/\xc3\xa4")));
    ck_assert(!url_is_origin_form(STR("")));
    ck_assert(!url_is_origin_form(STR("a")));
    ck_assert(!url_is_origin_form(STR("http://h/")));
    ck_assert(!url_is_origin_form(STR("/a b")));
    ck_assert(!url_is_origin_form(STR("/a\"b")));
    ck_assert(!url_is_origin_form(STR("/?a=<b")));
    ck_assert(!url_is_origin_form(STR("/?a=b>")));
    ck_assert(url_is_origin_form(STR("/?a={b}|[c]^`\\")));
    ck_assert(!url_is_origin_form(STR("/a\rb")));
    ck_assert(!url_is_origin_form(str_make("/a\0b", 4)));
    ck_assert(!url_is_origin_form(STR("/a#b")));
}
END_TEST

/* NULL: refused. */
static const struct {
    const char *in, *out;
} paths[] = {
    { "/", "/" },
    { "/a/b", "/a/b" },
    { "/a?b=/../c", "/a" },
    { "/a//b///c/", "/a/b/c/" },
    { "/a/./b", "/a/b" },
    { "/a/.", "/a/" },
    { "/a/b/..", "/a/" },
    { "/a/../b", "/b" },
    { "/a/b/../../c", "/c" },
    { "/%61%2F%62", "/a/b" },
    { "/x/%2e%2E/internal/", "/internal/" },
    { "/x/%2e%2e%2finternal/", "/internal/" },
    { "/x\\..\\internal/", "/internal/" },
    { "/x/%5c..%5cinternal/", "/internal/" },
    { "/internal;x=1/y;z", "/internal/y" },
    { "/a;/../b", "/b" },
    { "/%3bx/", "/" },
    { "//internal/", "/internal/" },
    { "/a%zz", "/a%zz" },
    { "/a%4", "/a%4" },
    { "/a%", "/a%" },
    { "/%2561", "/%61" }, /* decoded once, not twice */
    { "/a...", "/a..." },
    { "/...", "/..." },
    { "/..", NULL },
    { "/../a", NULL },
    { "/a/../../b", NULL },
    { "/%2e%2e/a", NULL },
    { "/..;/a", NULL },
    { "/a%00b", NULL },
    { "/%c0%ae%c0%ae/a", NULL },
    { "/%c0%af", NULL },
    { "/\xc0\xae", NULL },
    { "/%e0%80%af", NULL },
    { "/%f0%80%80%af", NULL },
    { "/\xc3\xa4", "/\xc3\xa4" },
    { "/%f0%9f%98%80", "/\xf0\x9f\x98\x80" },
    { "a", NULL },
    { "", NULL },
    { "?", NULL },
    { "*", NULL },
};

START_TEST(normalises_paths)
{
    struct arena a = { 0 };
    struct str path;
    bool ok = url_normalise_path(&a, cuts_guarded(str_of(paths[_i].in)), &path);

    ck_assert_msg(
        ok == (paths[_i].out != NULL), "%s is %s", paths[_i].in, ok ? "taken" : "refused");
    if (ok)
        ck_assert_span_eq(path, paths[_i].out);
    arena_release(&a);
}
END_TEST

/* What came out is a fixed point wherever it holds nothing to decode: routes' prefixes rely on it.
 */
START_TEST(normal_paths_stay_as_they_are)
{
    struct arena a = { 0 };
    struct str once, twice;

    if (paths[_i].out && !strchr(paths[_i].out, '%')) {
        ck_assert(url_normalise_path(&a, str_of(paths[_i].in), &once));
        ck_assert(url_normalise_path(&a, once, &twice));
        ck_assert(str_eq(once, twice));
    }
    arena_release(&a);
}
END_TEST

START_TEST(refuses_a_raw_nul)
{
    struct arena a = { 0 };
    struct str path;

    ck_assert(!url_normalise_path(&a, str_make("/a\0b", 4), &path));
    arena_release(&a);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("url");

    tcase_add_loop_test(t, splits_urls, 0, COUNT_OF(urls));
    tcase_add_test(t, reads_host_fields);
    tcase_add_test(t, knows_default_ports);
    tcase_add_test(t, knows_origin_form);
    tcase_add_loop_test(t, normalises_paths, 0, COUNT_OF(paths));
    tcase_add_loop_test(t, normal_paths_stay_as_they_are, 0, COUNT_OF(paths));
    tcase_add_test(t, refuses_a_raw_nul);
    return t;
}

UNIT_MAIN("url")
