/* Ticket keys: derived, kept in a short ring, handed to OpenSSL. */
#include "net/tickets.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdlib.h>

#include "net/loop.h"

/* The keys of one secret: those that still open tickets, the one in use, the next one (the clocks
 * of two machines never quite agree); and as many again of the secret before. */
enum { KEYS_MAX = 2 * (TICKETS_ROTATIONS_MAX + 3), SECRET_N = 32 };

struct tickets {
    uint64_t rotation_ms, session_timeout_ms;
    unsigned char own[SECRET_N]; /* as it is at own_rotation; goes on while a shared one is used */
    uint64_t own_rotation;
    bool shared;                  /* there is a secret from a file */
    unsigned char file[SECRET_N]; /* its digest */
    uint64_t file_rotation;       /* the last one that keys were made for */
    struct tickets_key keys[KEYS_MAX];
    size_t nkeys; /* oldest first */
};

/* Where a context keeps its tickets. Allocated once a process. */
static int tickets_index = -1;

static void tickets_digest(const unsigned char secret[SECRET_N], struct str label, uint64_t number,
    unsigned char out[SECRET_N])
{
    unsigned char text[32] = { 0 };
    size_t n = label.n;

    memcpy(text, label.p, n);
    for (size_t i = 0; i < 8; i++)
        text[n + i] = (unsigned char)(number >> (56 - 8 * i));
    /* Fails only if there is no memory, and then OpenSSL makes no context either. */
    HMAC(EVP_sha256(), secret, SECRET_N, text, n + 8, out, NULL);
}

/* Removes keys that open no valid ticket any more, and makes room for one in any case. */
static void tickets_drop_old(struct tickets *t, uint64_t wall_ms)
{
    size_t old = 0;

    while (old < t->nkeys && (t->keys[old].ends_ms <= wall_ms || t->nkeys - old == KEYS_MAX))
        old++;
    if (old == 0)
        return;
    memmove(t->keys, t->keys + old, (t->nkeys - old) * sizeof(*t->keys));
    t->nkeys -= old;
    OPENSSL_cleanse(t->keys + t->nkeys, old * sizeof(*t->keys));
}

static void tickets_add_key(
    struct tickets *t, const unsigned char secret[SECRET_N], uint64_t rotation, uint64_t wall_ms)
{
    struct tickets_key *k;
    unsigned char name[SECRET_N];

    tickets_drop_old(t, wall_ms);
    k = &t->keys[t->nkeys++];
    tickets_digest(secret, STR("ticket name"), rotation, name);
    memcpy(k->name, name, sizeof(k->name));
    tickets_digest(secret, STR("ticket cipher"), rotation, k->cipher);
    tickets_digest(secret, STR("ticket mac"), rotation, k->mac);
    k->begins_ms = rotation * t->rotation_ms;
    k->ends_ms = (rotation + 1) * t->rotation_ms + t->session_timeout_ms;
}

struct tickets *tickets_new(
    uint64_t rotation_ms, uint64_t session_timeout_ms, struct str secret, uint64_t wall_ms)
{
    struct tickets *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    t->rotation_ms = rotation_ms;
    t->session_timeout_ms = session_timeout_ms;
    t->own_rotation = wall_ms / rotation_ms;
    if (RAND_priv_bytes(t->own, SECRET_N) != 1) {
        tickets_free(t);
        return NULL;
    }
    if (secret.n > 0)
        tickets_set_secret(t, secret, wall_ms);
    else
        tickets_add_key(t, t->own, t->own_rotation, wall_ms);
    return t;
}

void tickets_free(struct tickets *t)
{
    if (t)
        OPENSSL_cleanse(t, sizeof(*t));
    free(t);
}

void tickets_set_secret(struct tickets *t, struct str secret, uint64_t wall_ms)
{
    uint64_t back = t->session_timeout_ms / t->rotation_ms + 1, now = wall_ms / t->rotation_ms;
    unsigned char file[SECRET_N] = { 0 };
    bool shared = secret.n > 0;

    tickets_rotate(t, wall_ms);
    if (shared)
        HMAC(EVP_sha256(), "tarry", 5, (const unsigned char *)secret.p, secret.n, file, NULL);
    if (shared == t->shared && CRYPTO_memcmp(file, t->file, SECRET_N) == 0)
        return;
    memcpy(t->file, file, SECRET_N);
    OPENSSL_cleanse(file, sizeof(file));
    t->shared = shared;
    if (!shared) {
        tickets_add_key(t, t->own, t->own_rotation, wall_ms);
        return;
    }
    /* Tickets of others that have had the secret for longer are opened too. */
    for (uint64_t r = now > back ? now - back : 0; r <= now + 1; r++)
        tickets_add_key(t, t->file, r, wall_ms);
    t->file_rotation = now + 1;
}

void tickets_rotate(struct tickets *t, uint64_t wall_ms)
{
    uint64_t now = wall_ms / t->rotation_ms;

    tickets_drop_old(t, wall_ms);
    while (t->own_rotation < now) {
        unsigned char next[SECRET_N];

        tickets_digest(t->own, STR("next secret"), 0, next);
        memcpy(t->own, next, SECRET_N);
        OPENSSL_cleanse(next, sizeof(next));
        t->own_rotation++;
        if (!t->shared)
            tickets_add_key(t, t->own, t->own_rotation, wall_ms);
    }
    while (t->shared && t->file_rotation < now + 1)
        tickets_add_key(t, t->file, ++t->file_rotation, wall_ms);
}

uint64_t tickets_session_timeout_ms(const struct tickets *t)
{
    return t->session_timeout_ms;
}

const struct tickets_key *tickets_current(struct tickets *t, uint64_t wall_ms)
{
    const struct tickets_key *k;

    tickets_rotate(t, wall_ms);
    if (t->nkeys == 0)
        return NULL;
    k = &t->keys[t->nkeys - 1];
    /* Of a shared secret the newest is the next one. */
    if (k->begins_ms > wall_ms && t->nkeys > 1 && t->shared)
        k--;
    return k;
}

const struct tickets_key *tickets_find(
    struct tickets *t, const unsigned char name[TICKETS_NAME_N], uint64_t wall_ms)
{
    tickets_rotate(t, wall_ms);
    for (size_t i = t->nkeys; i-- > 0;)
        if (memcmp(t->keys[i].name, name, TICKETS_NAME_N) == 0 && t->keys[i].ends_ms > wall_ms)
            return &t->keys[i];
    return NULL;
}

static bool tickets_set_mac(EVP_MAC_CTX *mac, const struct tickets_key *k)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)k->mac, sizeof(k->mac)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_end(),
    };

    return EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* 1: done; 2: opened, and a new ticket is due; 0: not opened, a whole handshake follows; -1: error.
 */
static int tickets_on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv,
    EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int sealing)
{
    struct tickets *t = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), tickets_index);
    const struct tickets_key *current = tickets_current(t, loop_wall_ms()), *k;

    if (sealing) {
        if (!current || RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1)
            return -1;
        memcpy(name, current->name, TICKETS_NAME_N);
        return EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, current->cipher, iv) == 1 &&
                       tickets_set_mac(mac, current)
                   ? 1
                   : -1;
    }
    k = tickets_find(t, name, loop_wall_ms());
    if (!k)
        return 0;
    if (EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, k->cipher, iv) != 1 ||
        !tickets_set_mac(mac, k))
        return -1;
    return k == current ? 1 : 2;
}

bool tickets_serve(struct tickets *t, SSL_CTX *ctx)
{
    if (tickets_index < 0)
        tickets_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    if (tickets_index < 0 || !SSL_CTX_set_ex_data(ctx, tickets_index, t))
        return false;
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_timeout(ctx, (long)(t->session_timeout_ms / 1000));
    return SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, tickets_on_ticket) == 1;
}
