/* Whom a client takes a server for: names in certificates against the name that was asked for. A
 * handshake in memory, with a certificate that is its own authority. */
#include "net/tls.h"

#include <openssl/err.h>
#include <stdio.h>

#include "conffile.h"
#include "unit.h"

static SSL *make_server(SSL_CTX **ctx)
{
    SSL *ssl;

    *ctx = SSL_CTX_new(TLS_server_method());
    ck_assert_int_eq(
        SSL_CTX_use_certificate_file(*ctx, conffile_path("s.crt"), SSL_FILETYPE_PEM), 1);
    ck_assert_int_eq(
        SSL_CTX_use_PrivateKey_file(*ctx, conffile_path("s.key"), SSL_FILETYPE_PEM), 1);
    ssl = SSL_new(*ctx);
    ck_assert_ptr_nonnull(ssl);
    SSL_set_accept_state(ssl);
    return ssl;
}

/* X509_V_OK if the client is content with the server, else what it finds wrong. */
static long verify(const char *names, const char *host)
{
    struct tls_client *t;
    struct tls_peer *p;
    SSL_CTX *ctx;
    SSL *client, *server;
    BIO *near, *far;
    long result;
    char why[256];
    bool done = false;

    conffile_put_named_certificate("s", names);
    t = tls_client_new(
        &(struct tls_terms){ .ca_file = str_of(conffile_path("s.crt")) }, why, sizeof(why));
    ck_assert_msg(t != NULL, "%s", why);
    p = tls_peer_new(t, str_of(host));
    client = tls_peer_begin(p, false);
    server = make_server(&ctx);
    SSL_set_connect_state(client);
    ck_assert_int_eq(BIO_new_bio_pair(&near, 0, &far, 0), 1);
    SSL_set_bio(client, near, near);
    SSL_set_bio(server, far, far);
    for (int i = 0; i < 10 && !done; i++) {
        done = SSL_do_handshake(client) == 1;
        SSL_do_handshake(server);
        ERR_clear_error();
    }
    result = SSL_get_verify_result(client);
    ck_assert_msg(done == (result == X509_V_OK), "%s for %s: %ld", names, host, result);
    SSL_free(client);
    SSL_free(server);
    SSL_CTX_free(ctx);
    tls_peer_unref(p);
    tls_client_unref(t);
    return result;
}

static const struct {
    const char *names, *host;
    long result;
} rows[] = {
    { "DNS:a.example", "a.example", X509_V_OK },
    { "DNS:a.example", "A.Example", X509_V_OK },
    { "DNS:b.example,DNS:a.example", "a.example", X509_V_OK },
    { "DNS:b.example", "a.example", X509_V_ERR_HOSTNAME_MISMATCH },
    { "DNS:a.example", "x.a.example", X509_V_ERR_HOSTNAME_MISMATCH },
    { "DNS:a.example.evil", "a.example", X509_V_ERR_HOSTNAME_MISMATCH },
    /* Its CN is "localhost", and does not count. */
    { NULL, "localhost", X509_V_ERR_HOSTNAME_MISMATCH },
    /* wildcards: one label, the first, and all of it (RFC 6125 6.4.3) */
    { "DNS:*.example.com", "a.example.com", X509_V_OK },
    { "DNS:*.example.com", "a.b.example.com", X509_V_ERR_HOSTNAME_MISMATCH },
    { "DNS:*.example.com", "example.com", X509_V_ERR_HOSTNAME_MISMATCH },
    { "DNS:a.*.example.com", "a.b.example.com", X509_V_ERR_HOSTNAME_MISMATCH },
    { "DNS:*.*.example.com", "a.b.example.com", X509_V_ERR_HOSTNAME_MISMATCH },
    { "DNS:a*.example.com", "ab.example.com", X509_V_ERR_HOSTNAME_MISMATCH },
    { "DNS:*b.example.com", "ab.example.com", X509_V_ERR_HOSTNAME_MISMATCH },
    { "DNS:*.com", "example.com", X509_V_ERR_HOSTNAME_MISMATCH },
    { "DNS:*", "localhost", X509_V_ERR_HOSTNAME_MISMATCH },
    { "DNS:*.1.2.3", "4.1.2.3", X509_V_ERR_IP_ADDRESS_MISMATCH },
    { "IP:192.0.2.1", "192.0.2.1", X509_V_OK },
    { "IP:192.0.2.1", "192.0.2.2", X509_V_ERR_IP_ADDRESS_MISMATCH },
    { "DNS:192.0.2.1", "192.0.2.1", X509_V_ERR_IP_ADDRESS_MISMATCH },
    { "IP:2001:db8::1", "2001:db8::1", X509_V_OK },
    { "IP:2001:db8::1", "2001:db8::2", X509_V_ERR_IP_ADDRESS_MISMATCH },
};

START_TEST(names_must_fit)
{
    ck_assert_int_eq(verify(rows[_i].names, rows[_i].host), rows[_i].result);
}
END_TEST

/* OpenSSL would take any name below it. */
START_TEST(a_name_that_begins_with_a_dot_is_none)
{
    struct tls_client *t;
    char why[256];

    conffile_put_certificate("s");
    t = tls_client_new(
        &(struct tls_terms){ .ca_file = str_of(conffile_path("s.crt")) }, why, sizeof(why));
    ck_assert_ptr_nonnull(t);
    ck_assert_ptr_null(tls_peer_new(t, STR(".example.com")));
    tls_client_unref(t);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("tls");

    tcase_add_checked_fixture(t, conffile_open, conffile_close);
    tcase_add_loop_test(t, names_must_fit, 0, COUNT_OF(rows));
    tcase_add_test(t, a_name_that_begins_with_a_dot_is_none);
    return t;
}

UNIT_MAIN("tls")
