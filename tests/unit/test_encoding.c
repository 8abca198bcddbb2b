/* Content codings: what a client likes, what suits, and what heads say then. */
#include "http/encoding.h"

#include <string.h>

#include "unit.h"

/* "Name=value|…" */
static size_t split(const char *text, struct field *list)
{
    struct str rest = str_of(text), one;
    size_t n = 0;

    while (rest.n > 0) {
        str_cut(rest, '|', &one, &rest);
        str_cut(one, '=', &list[n].name, &list[n].value);
        n++;
    }
    return n;
}

static const enum encoding offered[] = { ENCODING_ZSTD, ENCODING_BR, ENCODING_GZIP };

/* RFC 9110 12.5.3; NULL: no field. */
static const struct {
    const char *accept;
    enum encoding chosen;
} choices[] = {
    { NULL, ENCODING_IDENTITY },
    { "", ENCODING_IDENTITY },
    { "gzip", ENCODING_GZIP },
    { "GZip", ENCODING_GZIP },
    { "x-gzip", ENCODING_GZIP },
    { "gzip, deflate, br, zstd", ENCODING_ZSTD },
    { "gzip, deflate, br", ENCODING_BR },
    { "deflate", ENCODING_IDENTITY },
    { "deflate, gzip;q=1.0, *;q=0.5", ENCODING_GZIP },
    { "br;q=0.5, gzip;q=0.8", ENCODING_GZIP },
    { "br;q=0.5 , gzip ; q=0.499", ENCODING_BR },
    { "zstd;q=0.001", ENCODING_ZSTD },
    { "zstd;q=0, gzip", ENCODING_GZIP },
    { "*", ENCODING_ZSTD },
    { "*;q=0", ENCODING_IDENTITY },
    { "*;q=0, br", ENCODING_BR },
    { "*, zstd;q=0", ENCODING_BR },
    { "identity", ENCODING_IDENTITY },
    { "identity, gzip", ENCODING_GZIP }, /* equally well: the smaller one */
    { "identity, gzip;q=0.9", ENCODING_IDENTITY },
    { "identity;q=0.5, gzip;q=0.9", ENCODING_GZIP },
    { "identity;q=0", ENCODING_IDENTITY }, /* nothing else is allowed either */
    { "identity;q=0, *", ENCODING_ZSTD },
    { "gzip;q=2", ENCODING_IDENTITY }, /* malformed: not wanted */
    { "gzip;q=", ENCODING_IDENTITY },
    { "gzip;q=0.1234", ENCODING_IDENTITY },
    { "gzip;q=1.001", ENCODING_IDENTITY },
    { "gzip;q=.5", ENCODING_IDENTITY },
    { "gzip;q=0.x", ENCODING_IDENTITY },
    { "gzip;q=1.", ENCODING_GZIP },
    { "gzip;Q=0.5;x=y", ENCODING_GZIP },
    { "gzippy, brr", ENCODING_IDENTITY },
};

START_TEST(chooses_what_the_client_likes)
{
    struct field f = { STR("accept-ENCODING"), { 0 } };
    struct head h = { .fields = &f, .nfields = choices[_i].accept != NULL };

    if (choices[_i].accept)
        f.value = str_of(choices[_i].accept);
    ck_assert_msg(encoding_choose(&h, offered, COUNT_OF(offered)) == choices[_i].chosen, "\"%s\"",
        choices[_i].accept);
}
END_TEST

START_TEST(reads_the_field_over_several_lines)
{
    struct field list[] = { { STR_INIT("Accept-Encoding"), STR_INIT("br;q=0.2") },
        { STR_INIT("Accept-Encoding"), STR_INIT("gzip;q=0.3") } };
    struct head h = { .fields = list, .nfields = 2 };

    ck_assert_int_eq(encoding_choose(&h, offered, COUNT_OF(offered)), ENCODING_GZIP);
    ck_assert_int_eq(encoding_choose(&h, offered, 2), ENCODING_BR); /* gzip is not offered */
    ck_assert_int_eq(encoding_choose(&h, offered, 0), ENCODING_IDENTITY);
}
END_TEST

static const struct {
    unsigned status;
    const char *fields;
    bool suits;
} responses[] = {
    { 200, "Content-Type=application/json", true },
    { 200, "content-type=Application/JSON; charset=utf-8", true },
    { 200, "Content-Type=text/html|Content-Length=100", true },
    { 404, "Content-Type=text/css;x=y", true },
    { 200, "Content-Type=text/event-stream", false },
    { 200, "Content-Type=Text/Event-Stream; charset=utf-8", false },
    { 200, "Content-Type=image/png", false },
    { 200, "Content-Type=texty/html", false },
    { 200, "Content-Type=application/json-seq", false },
    { 200, "", false },
    { 200, "Content-Type=", false },
    { 200, "Content-Type=text/html|Content-Length=99", false },
    { 200, "Content-Type=text/html|Content-Length=0", false },
    { 204, "Content-Type=text/html", false },
    { 205, "Content-Type=text/html", false },
    { 206, "Content-Type=text/html", false },
    { 304, "Content-Type=text/html", false },
    { 101, "Content-Type=text/html", false },
    { 200, "Content-Type=text/html|Content-Encoding=gzip", false },
    { 200, "Content-Type=text/html|Content-Encoding=identity", false },
    { 200, "Content-Type=text/html|Content-Range=bytes 0-1/2", false },
    { 200, "Content-Type=text/html|Cache-Control=private, No-Transform", false },
    { 200, "Content-Type=text/html|Cache-Control=no-store", true },
};

START_TEST(knows_what_suits)
{
    static const struct str types[] = { STR_INIT("text/"), STR_INIT("application/json") };
    struct field list[4];
    struct head h = { .status = responses[_i].status, .fields = list };

    h.nfields = split(responses[_i].fields, list);
    ck_assert_int_eq(encoding_suits(&h, types, COUNT_OF(types), 100), responses[_i].suits);
    ck_assert(!encoding_suits(&h, types, 0, 100));
}
END_TEST

static const struct {
    const char *before, *after;
} heads[] = {
    { "Content-Type=a/b", "Content-Type=a/b|Content-Encoding=br|Vary=Accept-Encoding" },
    { "Content-Length=7|X=y|Content-MD5=m|Digest=d|Content-Digest=d|Repr-Digest=d|Accept-Ranges="
      "bytes",
        "X=y|Content-Encoding=br|Vary=Accept-Encoding" },
    { "ETag=\"abc\"|Vary=Cookie",
        "ETag=W/\"abc\"|Vary=Cookie|Content-Encoding=br|Vary=Accept-Encoding" },
    { "etag=W/\"abc\"|vary=Cookie, accept-encoding",
        "etag=W/\"abc\"|vary=Cookie, accept-encoding|Content-Encoding=br" },
    { "Vary=*", "Vary=*|Content-Encoding=br" },
};

START_TEST(makes_heads)
{
    struct field list[8], want[8];
    struct head in = { .status = 200, .fields = list }, out;
    struct arena a = { 0 };
    size_t n = split(heads[_i].after, want);

    in.nfields = split(heads[_i].before, list);
    ck_assert_int_eq(encoding_make_head(&a, &in, ENCODING_BR, &out), 0);
    ck_assert_uint_eq(out.status, 200);
    ck_assert_uint_eq(out.nfields, n);
    for (size_t i = 0; i < n; i++) {
        ck_assert(str_eq(out.fields[i].name, want[i].name));
        ck_assert(str_eq(out.fields[i].value, want[i].value));
    }
    arena_release(&a);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("encoding");

    tcase_add_loop_test(t, chooses_what_the_client_likes, 0, COUNT_OF(choices));
    tcase_add_test(t, reads_the_field_over_several_lines);
    tcase_add_loop_test(t, knows_what_suits, 0, COUNT_OF(responses));
    tcase_add_loop_test(t, makes_heads, 0, COUNT_OF(heads));
    return t;
}

UNIT_MAIN("encoding")
