/* Certificates with their names and staples. */
#include "conf/identity.h"

#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/file.h"

enum {
    STAPLE_MAX = 1 << 20,
    STAPLE_SKEW_S = 300, /* allowed difference between our clock and an authority's */
    NAME_MAX_OCTETS = 255,
};

/* ---- names ---- */

static int identity_by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A DNS name in lower case, or NULL if no client could ask for it. */
static char *identity_dns_name(const ASN1_STRING *s)
{
    const char *p = (const char *)ASN1_STRING_get0_data(s);
    int n = ASN1_STRING_length(s);
    char *out;

    if (n <= 0 || n > NAME_MAX_OCTETS)
        return NULL;
    for (int i = 0; i < n; i++) {
        char c = str_lower_char(p[i]);

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c && strchr("-._*", c))))
            return NULL;
    }
    out = strndup(p, (size_t)n);
    for (char *c = out; c && *c; c++)
        *c = str_lower_char(*c);
    return out;
}

static bool identity_read_names(struct identity *id)
{
    GENERAL_NAMES *all = X509_get_ext_d2i(id->chain.leaf, NID_subject_alt_name, NULL, NULL);
    int n = sk_GENERAL_NAME_num(all);
    size_t kept = 0;

    if (n > 0)
        id->names = calloc((size_t)n, sizeof(*id->names));
    if (n > 0 && !id->names) {
        GENERAL_NAMES_free(all);
        return false;
    }
    for (int i = 0; i < n; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(all, i);

        if (name->type == GEN_DNS && (id->names[id->nnames] = identity_dns_name(name->d.dNSName)))
            id->nnames++;
    }
    GENERAL_NAMES_free(all);
    if (id->nnames > 0)
        qsort(id->names, id->nnames, sizeof(*id->names), identity_by_text);
    for (size_t i = 0; i < id->nnames; i++) {
        if (kept > 0 && strcmp(id->names[kept - 1], id->names[i]) == 0)
            free(id->names[i]);
        else
            id->names[kept++] = id->names[i];
    }
    id->nnames = kept;
    return true;
}

bool identity_has(const struct identity *id, struct str name)
{
    for (size_t i = 0; i < id->nnames; i++)
        if (str_eq(str_of(id->names[i]), name))
            return true;
    return false;
}

bool identity_covers(const struct identity *id, struct str name)
{
    ptrdiff_t dot = str_find_char(name, '.');

    if (dot <= 0)
        return false;
    for (size_t i = 0; i < id->nnames; i++)
        if (id->names[i][0] == '*' &&
            str_eq(str_of(id->names[i] + 1), str_make(name.p + dot, name.n - (size_t)dot)))
            return true;
    return false;
}

bool identity_has_all(const struct identity *id, const struct identity *other)
{
    for (size_t i = 0; i < other->nnames; i++)
        if (!identity_has(id, str_of(other->names[i])))
            return false;
    return true;
}

/* ---- OCSP ---- */

/* The certificate in the chain that signed the leaf, or NULL. */
static X509 *identity_issuer_of(const struct identity *id)
{
    for (int i = 0; i < sk_X509_num(id->chain.rest); i++) {
        X509 *x = sk_X509_value(id->chain.rest, i);

        if (X509_check_issued(x, id->chain.leaf) == X509_V_OK)
            return x;
    }
    return NULL;
}

/* The part of the response for the leaf, or NULL. */
static OCSP_SINGLERESP *identity_find_answer(
    const struct identity *id, OCSP_BASICRESP *basic, X509 *issuer)
{
    for (int i = 0; i < OCSP_resp_count(basic); i++) {
        OCSP_SINGLERESP *one = OCSP_resp_get0(basic, i);
        OCSP_CERTID *about = (OCSP_CERTID *)OCSP_SINGLERESP_get0_id(one), *ours;
        ASN1_OBJECT *digest = NULL;
        ASN1_INTEGER *serial = NULL;
        bool same;

        OCSP_id_get0_info(NULL, &digest, NULL, &serial, about);
        if (ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(id->chain.leaf)) != 0)
            continue;
        if (!issuer)
            return one;
        ours = OCSP_cert_to_id(EVP_get_digestbyobj(digest), id->chain.leaf, issuer);
        same = ours && OCSP_id_cmp(ours, about) == 0;
        OCSP_CERTID_free(ours);
        if (same)
            return one;
    }
    return NULL;
}

/* Whether the issuer, or a responder that it authorised, signed the response. */
static bool identity_is_signed(OCSP_BASICRESP *basic, X509 *issuer)
{
    X509_STORE *store = X509_STORE_new();
    bool good = store && X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN) &&
                X509_STORE_add_cert(store, issuer) && OCSP_basic_verify(basic, NULL, store, 0) == 1;

    X509_STORE_free(store);
    return good;
}

static time_t identity_seconds_of(const ASN1_TIME *t)
{
    struct tm tm;

    return t && ASN1_TIME_to_tm(t, &tm) ? timegm(&tm) : 0;
}

/* The reason why the response cannot be used, or NULL. */
static const char *identity_check_staple(struct identity *id, OCSP_RESPONSE *response)
{
    OCSP_BASICRESP *basic;
    OCSP_SINGLERESP *one;
    X509 *issuer = identity_issuer_of(id);
    ASN1_GENERALIZEDTIME *from = NULL, *until = NULL;
    const char *why = NULL;

    if (!response)
        return "it is no OCSP response in DER";
    if (OCSP_response_status(response) != OCSP_RESPONSE_STATUS_SUCCESSFUL)
        return OCSP_response_status_str(OCSP_response_status(response));
    basic = OCSP_response_get1_basic(response);
    if (!basic)
        return "it is no OCSP response of the basic kind";
    one = identity_find_answer(id, basic, issuer);
    if (!one)
        why = "it is about another certificate";
    else if (OCSP_single_get0_status(one, NULL, NULL, &from, &until) != V_OCSP_CERTSTATUS_GOOD)
        why = "it does not say that the certificate is good";
    else if (OCSP_check_validity(from, until, STAPLE_SKEW_S, -1) != 1)
        why = "it is out of date; fetch a new one";
    else if (issuer && !identity_is_signed(basic, issuer))
        why = "its signature is not that of the certificate's authority";
    else
        id->staple_until = identity_seconds_of(until);
    OCSP_BASICRESP_free(basic);
    ERR_clear_error();
    return why;
}

static bool identity_read_staple(struct identity *id, const char *path, char *why, size_t whylen)
{
    struct file_content content;
    const unsigned char *at;
    OCSP_RESPONSE *response;
    const char *reason;

    if (!file_read(path, STAPLE_MAX, &content, why, whylen))
        return false;
    at = (const unsigned char *)content.p;
    response = d2i_OCSP_RESPONSE(NULL, &at, (long)content.n);
    reason = identity_check_staple(id, response);
    if (reason) {
        snprintf(id->staple_why, sizeof(id->staple_why), "\"%s\" is not stapled: %s", path, reason);
    } else {
        id->staple_n = (size_t)(at - (const unsigned char *)content.p);
        id->staple = malloc(id->staple_n);
        if (id->staple)
            memcpy(id->staple, content.p, id->staple_n);
        else
            snprintf(why, whylen, "out of memory");
    }
    OCSP_RESPONSE_free(response);
    file_forget(&content);
    ERR_clear_error();
    return reason || id->staple;
}

/* ---- the whole ---- */

/* Paths of the conf end with a NUL: they live in its arena. */
bool identity_read(struct identity *id, struct str certificate, struct str key,
    struct str ocsp_staple, char *why, size_t whylen)
{
    *id = (struct identity){ 0 };
    if (!pem_read_chain(certificate.p, &id->chain, why, whylen))
        return false;
    id->key = pem_read_key(key.p, why, whylen);
    if (!id->key || !pem_check_pair(&id->chain, id->key, certificate.p, key.p, why, whylen))
        goto failed;
    id->kind = EVP_PKEY_get_base_id(id->key);
    id->begins = identity_seconds_of(X509_get0_notBefore(id->chain.leaf));
    id->ends = identity_seconds_of(X509_get0_notAfter(id->chain.leaf));
    if (!identity_read_names(id)) {
        snprintf(why, whylen, "out of memory");
        goto failed;
    }
    if (ocsp_staple.n > 0 && !identity_read_staple(id, ocsp_staple.p, why, whylen))
        goto failed;
    return true;

failed:
    identity_release(id);
    return false;
}

void identity_release(struct identity *id)
{
    pem_release_chain(&id->chain);
    EVP_PKEY_free(id->key);
    for (size_t i = 0; i < id->nnames; i++)
        free(id->names[i]);
    free(id->names);
    free(id->staple);
    *id = (struct identity){ 0 };
}

const char *identity_kind_name(const struct identity *id)
{
    switch (id->kind) {
    case EVP_PKEY_RSA:
        return "RSA";
    case EVP_PKEY_RSA_PSS:
        return "RSA-PSS";
    case EVP_PKEY_EC:
        return "ECDSA";
    case EVP_PKEY_ED25519:
        return "Ed25519";
    case EVP_PKEY_ED448:
        return "Ed448";
    default:
        return "other";
    }
}
