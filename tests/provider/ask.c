/* A request as it came in. */
#include "ask.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct ask *ask_new(const char *protocol)
{
    struct ask *ask = text_alloc(sizeof *ask);

    ask->protocol = protocol;
    return ask;
}

void ask_free(struct ask *ask)
{
    if (!ask)
        return;
    free(ask->method);
    free(ask->target);
    free(ask->authority);
    text_free(&ask->fields);
    text_free(&ask->body);
    EVP_MD_CTX_free(ask->hash);
    free(ask);
}

void ask_add_field(struct ask *ask, const void *name, size_t name_n, const void *value, size_t n)
{
    text_add(&ask->fields, name, name_n);
    text_add(&ask->fields, "", 1);
    text_add(&ask->fields, value, n);
    text_add(&ask->fields, "", 1);
}

bool ask_next_field(const struct ask *ask, size_t *at, const char **name, const char **value)
{
    if (*at >= ask->fields.n)
        return false;
    *name = ask->fields.p + *at;
    *value = *name + strlen(*name) + 1;
    *at = (size_t)(*value - ask->fields.p) + strlen(*value) + 1;
    return true;
}

const char *ask_field(const struct ask *ask, const char *name)
{
    const char *found, *value;

    for (size_t at = 0; ask_next_field(ask, &at, &found, &value);)
        if (strcasecmp(found, name) == 0)
            return value;
    return NULL;
}

void ask_want_digest(struct ask *ask)
{
    ask->hash = EVP_MD_CTX_new();
    if (!ask->hash || !EVP_DigestInit_ex(ask->hash, EVP_sha256(), NULL))
        abort();
}

void ask_add_body(struct ask *ask, const void *p, size_t n)
{
    size_t keep = ask->body_keep - ask->body.n;

    if (ask->hash)
        EVP_DigestUpdate(ask->hash, p, n);
    ask->body_length += n;
    if (n && keep)
        text_add(&ask->body, p, n < keep ? n : keep);
}

void ask_end_body(struct ask *ask)
{
    if (!ask->hash)
        return;
    EVP_DigestFinal_ex(ask->hash, ask->digest, NULL);
    EVP_MD_CTX_free(ask->hash);
    ask->hash = NULL;
    ask->digested = true;
}

void ask_drop_body(struct ask *ask)
{
    text_free(&ask->body);
}

static void member(struct text *to, const char *name, const char *value)
{
    text_printf(to, "\"%s\":", name);
    if (value)
        text_json(to, value, strlen(value), TEXT_LATIN1);
    else
        text_puts(to, "null");
    text_puts(to, ",");
}

void ask_describe(const struct ask *ask, struct text *to)
{
    const char *name, *value, *comma = "";

    member(to, "method", ask->method);
    member(to, "path", ask->target);
    member(to, "authority", ask->authority);
    text_puts(to, "\"headers\":[");
    for (size_t at = 0; ask_next_field(ask, &at, &name, &value); comma = ",") {
        text_printf(to, "%s[", comma);
        text_json(to, name, strlen(name), TEXT_LATIN1);
        text_puts(to, ",");
        text_json(to, value, strlen(value), TEXT_LATIN1);
        text_puts(to, "]");
    }
    text_printf(
        to, "],\"body_length\":%llu,\"body_sha256\":", (unsigned long long)ask->body_length);
    if (ask->digested) {
        text_puts(to, "\"");
        text_hex(to, ask->digest, sizeof ask->digest);
        text_puts(to, "\"");
    } else {
        text_puts(to, "null");
    }
}
