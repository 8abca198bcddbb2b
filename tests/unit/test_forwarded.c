/* Forwarded (RFC 7239), and the forms of the older fields. */
#include "http/forwarded.h"

#include <stdio.h>
#include <string.h>

#include "unit.h"

/* The elements as "NODE PROTO HOST;" each, "-" for what is not said; "malformed" at the end. */
static const char *read_all(const char *in)
{
    static char out[1024];
    struct str rest = str_of(in);
    struct forwarded e;
    size_t n = 0;
    int rc;

    out[0] = 0;
    while ((rc = forwarded_next(&rest, &e)) > 0)
        n += (size_t)snprintf(out + n, sizeof(out) - n, STR_FMT " " STR_FMT " " STR_FMT ";",
            STR_ARG(e.node.p ? e.node : STR("-")), STR_ARG(e.proto.p ? e.proto : STR("-")),
            STR_ARG(e.host.p ? e.host : STR("-")));
    if (rc < 0)
        snprintf(out + n, sizeof(out) - n, "malformed");
    return out;
}

static const struct {
    const char *in, *out;
} values[] = {
    { "", "" },
    { " , ,", "" },
    { "for=192.0.2.43", "192.0.2.43 - -;" },
    { "For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17 - -;" },
    { "for=\"[2001:db8::1]\"", "2001:db8::1 - -;" },
    { "for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60 http -;" },
    { "for=192.0.2.43, for=198.51.100.17", "192.0.2.43 - -;198.51.100.17 - -;" },
    { "for=192.0.2.43,\tfor=unknown ,for=_gazonk", "192.0.2.43 - -;unknown - -;_gazonk - -;" },
    { "for=\"192.0.2.43:47011\";host=\"a.example:8443\"", "192.0.2.43 - a.example:8443;" },
    { "for=\"_x:_port\";PROTO=HTTPS;secret=t", "_x HTTPS -;" },
    { "proto=https", "- https -;" },
    { "by=_me", "- - -;" },
    /* Nothing that could be read in two ways */
    { "for", "malformed" },
    { "for=", "malformed" },
    { "=192.0.2.1", "malformed" },
    { "for=192.0.2.1;", "malformed" },
    { "for=192.0.2.1; proto=http", "malformed" },
    { "for = 192.0.2.1", "malformed" },
    { "for=192.0.2.1 for=192.0.2.2", "malformed" },
    { "for=192.0.2.1;for=192.0.2.2", "malformed" },
    { "for=192.0.2.1;proto=http;Proto=https", "malformed" },
    { "for=\"192.0.2.1", "malformed" },
    { "for=\"192.0.2.1\\\"\"", "malformed" },
    { "for=\"192.0.2.1\"x", "malformed" },
    { "for=2001:db8::1", "malformed" },
    { "for=[2001:db8::1]", "malformed" },
    { "for=\"[192.0.2.1]\"", "malformed" },
    { "for=\"[2001:db8::1\"", "malformed" },
    { "for=\"[2001:db8::1]x\"", "malformed" },
    { "for=\"[]\"", "malformed" },
    { "for=192.0.2.256", "malformed" },
    { "for=\"192.0.2.1:\"", "malformed" },
    { "for=\"192.0.2.1:99999\"", "malformed" },
    { "for=\"\"", "malformed" },
    { "for=_", "malformed" },
    { "for=name", "malformed" },
    { "for=\"_a b\"", "malformed" },
    { "proto=gopher", "malformed" },
    { "host=\"a@b\"", "malformed" },
    { "host=\"\"", "malformed" },
    { "host=\"a/b\"", "malformed" },
    { "for=192.0.2.1, proto=\"><script>\"", "192.0.2.1 - -;malformed" },
};

START_TEST(reads_elements_strictly)
{
    ck_assert_str_eq(read_all(values[_i].in), values[_i].out);
}
END_TEST

static const struct {
    bool (*is)(struct str list);
    const char *list;
    bool good;
} lists[] = {
    { forwarded_is_for, "192.0.2.1", true },
    { forwarded_is_for, "192.0.2.1:80, [2001:db8::1]:443, 2001:db8::1, unknown, _x, fe80::1%eth0",
        true },
    { forwarded_is_for, "", false },
    { forwarded_is_for, " ,", false },
    { forwarded_is_for, "192.0.2.1 192.0.2.2", false },
    { forwarded_is_for, "192.0.2.1, \"x\"", false },
    { forwarded_is_for, "<script>", false },
    { forwarded_is_for, "a\\b", false },
    { forwarded_is_for, "\xff\xfe", false },
    { forwarded_is_proto, "https", true },
    { forwarded_is_proto, "HTTPS, http, wss", true },
    { forwarded_is_proto, "https;x", false },
    { forwarded_is_proto, "javascript", false },
    { forwarded_is_host, "a.example", true },
    { forwarded_is_host, "a.example:8443, [2001:db8::1]:1", true },
    { forwarded_is_host, "a.example/x", false },
    { forwarded_is_host, "a@b", false },
    { forwarded_is_port, "443, 80", true },
    { forwarded_is_port, "0x1bb", false },
    { forwarded_is_port, "65536", false },
};

START_TEST(knows_the_older_forms)
{
    ck_assert_msg(lists[_i].is(str_of(lists[_i].list)) == lists[_i].good, "%s", lists[_i].list);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("forwarded");

    tcase_add_loop_test(t, reads_elements_strictly, 0, COUNT_OF(values));
    tcase_add_loop_test(t, knows_the_older_forms, 0, COUNT_OF(lists));
    return t;
}

UNIT_MAIN("forwarded")
