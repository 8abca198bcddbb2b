/* Conf files of tests. */
#include "conffile.h"

#include <check.h>
#include <dirent.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];
static struct arena arena;

void conffile_open(void)
{
    snprintf(folder, sizeof(folder), "/tmp/tarry-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

void conffile_close(void)
{
    DIR *d = opendir(folder);
    struct dirent *e;

    while (d && (e = readdir(d)))
        if (e->d_name[0] != '.' && unlink(conffile_path(e->d_name)) < 0)
            rmdir(conffile_path(e->d_name));
    if (d)
        closedir(d);
    rmdir(folder);
    arena_release(&arena);
}

const char *conffile_path(const char *name)
{
    return arena_printf(&arena, "%s/%s", folder, name).p;
}

const char *conffile_put(const char *name, const char *text)
{
    const char *path = conffile_path(name);
    FILE *f = fopen(path, "w");

    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    ck_assert_int_eq(fclose(f), 0);
    return path;
}

struct conf *conffile_load(const char *text, struct conf_errors *errors)
{
    return conf_load(conffile_put("t.conf", text), errors);
}

struct conf *conffile_must_load(const char *text)
{
    struct conf_errors errors;
    struct conf *c = conffile_load(text, &errors);

    ck_assert_msg(c != NULL, STR_FMT, errors.count > 0 ? (int)errors.list[0].n : 0,
        errors.count > 0 ? errors.list[0].p : "");
    ck_assert_uint_eq(errors.count, 0);
    conf_errors_release(&errors);
    return c;
}

void conffile_put_certificate(const char *name)
{
    conffile_put_named_certificate(name, NULL);
}

void conffile_put_named_certificate(const char *name, const char *names)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    char file[64];
    FILE *f;

    ck_assert(key && x);
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -60);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
        (const unsigned char *)"localhost", -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    if (names) {
        X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);

        ck_assert_int_eq(X509_add_ext(x, e, -1), 1);
        X509_EXTENSION_free(e);
    }
    ck_assert_int_gt(X509_sign(x, key, EVP_sha256()), 0);
    snprintf(file, sizeof(file), "%s.crt", name);
    f = fopen(conffile_path(file), "w");
    ck_assert(f && PEM_write_X509(f, x) == 1);
    fclose(f);
    snprintf(file, sizeof(file), "%s.key", name);
    f = fopen(conffile_path(file), "w");
    ck_assert(f && PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1);
    fclose(f);
    X509_free(x);
    EVP_PKEY_free(key);
}
