/* Checks of listeners: certificates and keys, client certificates, session tickets. */
#include "conf/verifylisten.h"

#include "conf/identity.h"
#include "conf/twins.h"

/* Keys are kept for this many rotations only, which limits the damage of a leaked key. */
enum { TICKET_ROTATIONS_MAX = 32, TICKET_SECRET_MIN = 32 };

void verifylisten_authorities(
    struct draft *d, const struct draft_section *s, const char *name, struct str path)
{
    char why[IDENTITY_WHY_MAX];
    X509_STORE *store;

    if (path.n == 0)
        return;
    store = pem_read_authorities(path.p, why, sizeof(why));
    if (!store)
        mistake_add(&d->mistakes, draft_place(s, name), "%s: %s", name, why);
    X509_STORE_free(store);
}

bool verifylisten_pair(
    struct draft *d, const struct draft_section *s, struct str certificate, struct str key)
{
    struct place at_certificate = draft_place(s, "certificate"),
                 at_key = draft_place(s, "private_key");
    struct pem_chain chain = { 0 };
    EVP_PKEY *pkey = NULL;
    char why[IDENTITY_WHY_MAX];
    bool good = false;

    if (certificate.n > 0 && !pem_read_chain(certificate.p, &chain, why, sizeof(why)))
        mistake_add(&d->mistakes, at_certificate, "certificate: %s", why);
    if (key.n > 0 && !(pkey = pem_read_key(key.p, why, sizeof(why))))
        mistake_add(&d->mistakes, at_key, "private_key: %s", why);
    if (chain.leaf && pkey) {
        good = pem_check_pair(&chain, pkey, certificate.p, key.p, why, sizeof(why));
        if (!good)
            mistake_add(&d->mistakes, at_key, "private_key: %s", why);
    }
    pem_release_chain(&chain);
    EVP_PKEY_free(pkey);
    return good;
}

/* An expired certificate is not a mistake: it must not make a restart fail, nor a reload that
 * repairs something else. */
static void verifylisten_check_time(
    struct draft *d, const struct draft_section *s, const struct identity *id)
{
    struct place at = draft_place(s, "certificate");
    time_t now = time(NULL);

    if (id->ends <= now)
        mistake_warn(&d->mistakes, at,
            "certificate: it expired %ld days ago and clients will refuse it; renew it",
            (long)(now - id->ends) / (24 * 3600));
    else if (id->begins > now)
        mistake_warn(&d->mistakes, at,
            "certificate: it is not valid yet and clients will refuse it for %ld hours; is the "
            "clock right?",
            (long)(id->begins - now) / 3600 + 1);
}

/* False after a mistake, or if there is nothing. What is wrong is looked for only then: keys are
 * slow to read. */
static bool verifylisten_read_identity(struct draft *d, const struct draft_section *s,
    struct str certificate, struct str key, struct str staple, struct identity *out)
{
    char why[IDENTITY_WHY_MAX];

    if (certificate.n > 0 && key.n > 0 &&
        identity_read(out, certificate, key, staple, why, sizeof(why))) {
        verifylisten_check_time(d, s, out);
        return true;
    }
    if (verifylisten_pair(d, s, certificate, key))
        mistake_add(&d->mistakes, draft_place(s, "ocsp_staple"), "ocsp_staple: %s", why);
    return false;
}

/* The first of `n` identities that has the name and a key of that kind, or -1. */
static int verifylisten_who_has(const struct identity *all, int n, const char *name, int kind)
{
    for (int i = 0; i < n; i++)
        if (all[i].kind == kind && identity_has(&all[i], str_of(name)))
            return i;
    return -1;
}

/* Whether any client could ever be shown the last of the identities `all`. */
static void verifylisten_check_use(struct draft *d, const struct draft_section *s,
    const struct identity_conf *conf, const struct identity *all, int last)
{
    const struct identity *id = &all[last];

    if (id->nnames == 0) {
        mistake_add(&d->mistakes, draft_place(s, "certificate"),
            "certificate: the one in \"" STR_FMT "\" has no DNS name (subjectAltName), so that no "
            "client could ask for it; take one that has",
            STR_ARG(conf->certificate));
        return;
    }
    for (size_t i = 0; i < id->nnames; i++)
        if (verifylisten_who_has(all, last, id->names[i], id->kind) < 0)
            return;
    mistake_add(&d->mistakes, draft_place(s, "certificate"),
        "certificate: all names of the one in \"" STR_FMT "\" (\"%s\" …) stand in %s certificates "
        "above already, which would always be shown instead; leave one of them out",
        STR_ARG(conf->certificate), id->names[0], identity_kind_name(id));
}

static void verifylisten_require_file(
    struct draft *d, const struct draft_section *s, const char *name)
{
    if (!draft_find(s, name) && !draft_lost_option(s, name))
        mistake_add(&d->mistakes, s->place, "identity %s has no %s; name its file",
            mistake_quote(&d->scratch, s->title), name);
}

/* The listener's own certificate, and its identities, whose sections follow it directly. */
static void verifylisten_check_identities(struct draft *d, struct draft_section *s)
{
    const struct listen_conf *l = s->base;
    struct identity *all = arena_alloc(&d->scratch, (l->nidentities + 1) * sizeof(*all));
    int n = 0;

    if (!all) {
        d->mistakes.no_memory = true;
        return;
    }
    if (verifylisten_read_identity(d, s, l->certificate, l->private_key, l->ocsp_staple, &all[n]))
        n++;
    for (size_t i = 0; i < l->nidentities; i++) {
        const struct draft_section *in = s + 1 + i;
        const struct identity_conf *ic = in->base;

        verifylisten_require_file(d, in, "certificate");
        verifylisten_require_file(d, in, "private_key");
        if (!verifylisten_read_identity(
                d, in, ic->certificate, ic->private_key, ic->ocsp_staple, &all[n]))
            continue;
        verifylisten_check_use(d, in, ic, all, n);
        n++;
    }
    while (n > 0)
        identity_release(&all[--n]);
    twins_refuse(d, (size_t)(s - d->sections) + 1, l->nidentities, SECTION_IDENTITY,
        SECTION_IDENTITY, twins_title_key, "identity", "give it another name");
}

/* Options that need TLS. */
static void verifylisten_refuse_without_tls(struct draft *d, const struct draft_section *s)
{
    static const char *const names[] = { "client_ca_file", "client_certificate", "misdirected",
        "ocsp_staple", "tls_min_version" };
    const struct listen_conf *l = s->base;

    if (draft_lost_option(s, "certificate") || draft_lost_option(s, "private_key"))
        return;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (draft_find(s, names[i]))
            mistake_add(&d->mistakes, draft_place(s, names[i]),
                "%s is of use over TLS only; name a certificate and a private_key, or leave it out",
                names[i]);
    if (l->nidentities > 0)
        mistake_add(&d->mistakes, s[1].place,
            "identity without a certificate of the listener itself; name the one that clients get "
            "who ask for no name (certificate and private_key)");
}

static void verifylisten_check_client_certificates(struct draft *d, const struct draft_section *s)
{
    const struct listen_conf *l = s->base;
    const struct draft_note *wrote = draft_find(s, "client_certificate");

    verifylisten_authorities(d, s, "client_ca_file", l->client_ca_file);
    if (l->client_certificate != CLIENT_CERTIFICATE_OFF && l->client_ca_file.n == 0 &&
        !draft_lost_option(s, "client_ca_file"))
        mistake_add(&d->mistakes, draft_place(s, "client_certificate"),
            "client_certificate without client_ca_file; name the authorities that clients' "
            "certificates are from");
    if (l->client_certificate == CLIENT_CERTIFICATE_OFF && l->client_ca_file.n > 0 &&
        (!wrote || str_eq_nocase(wrote->text, STR("off"))) &&
        !draft_lost_option(s, "client_certificate"))
        mistake_add(&d->mistakes, draft_place(s, "client_ca_file"),
            "client_ca_file is of no use while client_certificate is \"off\"; write "
            "client_certificate = \"required\" or leave it out");
}

static void verifylisten_check_proxy_protocol(struct draft *d, const struct draft_section *s)
{
    const struct listen_conf *l = s->base;

    if (l->proxy_protocol && d->conf->ntrusted_proxies == 0 &&
        !draft_lost_option(&d->sections[0], "trusted_proxies"))
        mistake_add(&d->mistakes, draft_place(s, "proxy_protocol"),
            "proxy_protocol without trusted_proxies: nobody could connect; name there the "
            "addresses that the proxies come from");
    if (!l->proxy_protocol && draft_find(s, "proxy_protocol_timeout"))
        mistake_add(&d->mistakes, draft_place(s, "proxy_protocol_timeout"),
            "proxy_protocol_timeout is of no use without proxy_protocol; write proxy_protocol = "
            "true, or leave it out");
}

void verifylisten_section(struct draft *d, struct draft_section *s)
{
    const struct listen_conf *l = s->base;

    if (l->certificate.n > 0 && l->private_key.n == 0 && !draft_lost_option(s, "private_key"))
        mistake_add(&d->mistakes, draft_place(s, "certificate"),
            "certificate without private_key; name the key's file too");
    if (l->private_key.n > 0 && l->certificate.n == 0 && !draft_lost_option(s, "certificate"))
        mistake_add(&d->mistakes, draft_place(s, "private_key"),
            "private_key without certificate; name the certificate's file too");
    if (l->certificate.n == 0 && l->private_key.n == 0)
        verifylisten_refuse_without_tls(d, s);
    else
        verifylisten_check_client_certificates(d, s);
    verifylisten_check_identities(d, s);
    verifylisten_check_proxy_protocol(d, s);
}

void verifylisten_tickets(struct draft *d, const struct draft_section *root)
{
    struct conf *c = d->conf;
    uint64_t most = c->ticket_rotation_ms * TICKET_ROTATIONS_MAX;

    if (c->session_timeout_ms > most && !draft_find(root, "session_timeout"))
        c->session_timeout_ms = most;
    else if (c->session_timeout_ms > most)
        mistake_add(&d->mistakes, draft_place(root, "session_timeout"),
            "session_timeout is more than %d times ticket_rotation; make it less or the other more",
            TICKET_ROTATIONS_MAX);
    if (c->ticket_secret.n > 0 && c->ticket_secret.n < TICKET_SECRET_MIN)
        mistake_add(&d->mistakes, draft_place(root, "ticket_key_file"),
            "ticket_key_file: the secret has only %zu characters; take at least %d (openssl rand "
            "-hex 32)",
            c->ticket_secret.n, TICKET_SECRET_MIN);
}
