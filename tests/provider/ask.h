/* A request as it came in, before anybody thinks about it. The connection fills it; job reads it.
 */
#ifndef PROVIDER_ASK_H
#define PROVIDER_ASK_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text.h"

struct ask {
    const char *protocol; /* "HTTP/1.1" */
    char *method, *target, *authority;
    struct text fields; /* name, zero, value, zero, … in order and spelling of arrival */
    struct text body;   /* its first `body_keep` bytes */
    size_t body_keep;
    uint64_t body_length;
    EVP_MD_CTX *hash; /* NULL: nobody wants to know */
    unsigned char digest[32];
    bool digested;
};

struct ask *ask_new(const char *protocol);
/* `ask` may be NULL. */
void ask_free(struct ask *ask);

void ask_add_field(struct ask *ask, const void *name, size_t name_n, const void *value, size_t n);
/* The first field of that name in any spelling, or NULL. */
const char *ask_field(const struct ask *ask, const char *name);
/* Steps through all fields: `*at` begins at 0. */
bool ask_next_field(const struct ask *ask, size_t *at, const char **name, const char **value);

/* To be called before the body comes. */
void ask_want_digest(struct ask *ask);
void ask_add_body(struct ask *ask, const void *p, size_t n);
/* The body is complete: the digest becomes known. */
void ask_end_body(struct ask *ask);

/* What is no longer needed once the answer is planned. */
void ask_drop_body(struct ask *ask);

/* `"headers":[…],"body_length":…,"body_sha256":…` and what comes before, for records and echoes; no
 * braces. */
void ask_describe(const struct ask *ask, struct text *to);

#endif
