/* Fields in and out of nghttp2. */
#include "http/h2head.h"

#include <stdio.h>
#include <stdlib.h>

#include "http/fields.h"

enum { FIELD_OVERHEAD = 32 }; /* RFC 9113 10.5.1 */

struct h2_inbox *h2_inbox_new(void)
{
    struct h2_inbox *b = calloc(1, sizeof(*b));

    if (b)
        b->head.minor = 1;
    return b;
}

void h2_inbox_free(struct h2_inbox *b)
{
    if (!b)
        return;
    arena_release(&b->arena);
    free(b);
}

/* nghttp2 has checked that pseudo-fields come first, once, and are those of a response or a
 * request. */
static enum stream_error h2head_take_pseudo(struct h2_inbox *to, struct str name, struct str value)
{
    struct head *h = &to->head;
    struct str copy;

    if (str_eq(name, STR(":status"))) {
        if (value.n != 3)
            return STREAM_E_PROTOCOL;
        h->status = 0;
        for (size_t i = 0; i < 3; i++) {
            if (value.p[i] < '0' || value.p[i] > '9')
                return STREAM_E_PROTOCOL;
            h->status = h->status * 10 + (unsigned)(value.p[i] - '0');
        }
        return h->status >= 100 && h->status <= 599 ? 0 : STREAM_E_PROTOCOL;
    }
    copy = arena_copy(&to->arena, value);
    if (!copy.p)
        return STREAM_E_MEMORY;
    if (str_eq(name, STR(":method")))
        h->method = copy;
    else if (str_eq(name, STR(":path")))
        h->target = copy;
    else if (str_eq(name, STR(":authority")))
        h->authority = copy;
    else if (str_eq(name, STR(":scheme")))
        to->scheme = copy;
    else if (str_eq(name, STR(":protocol")))
        to->protocol = copy;
    return 0;
}

enum stream_error h2_head_take(struct h2_block *block, size_t head_max, size_t fields_max,
    struct h2_inbox *to, struct str name, struct str value)
{
    block->bytes += name.n + value.n + FIELD_OVERHEAD;
    block->fields += name.n == 0 || name.p[0] != ':';
    if (block->bytes > head_max || block->fields > fields_max)
        return STREAM_E_HEAD_TOO_LARGE;
    if (!to)
        return 0;
    if (name.n > 0 && name.p[0] == ':')
        return h2head_take_pseudo(to, name, value);
    if (!field_is_token(name) || (value.n > 0 && !field_is_value(value)))
        return STREAM_E_PROTOCOL;
    name = arena_copy(&to->arena, name);
    value = arena_copy(&to->arena, value);
    if (!name.p || !value.p || head_add(&to->head, &to->arena, name, value) < 0)
        return STREAM_E_MEMORY;
    return 0;
}

static nghttp2_nv h2head_pair(struct str name, struct str value)
{
    return (nghttp2_nv){ .name = (uint8_t *)name.p,
        .namelen = name.n,
        .value = (uint8_t *)value.p,
        .valuelen = value.n };
}

/* Whether the field goes on the wire: not those of HTTP/1.1's connections. */
static bool h2head_is_sent(const struct head *head, const struct field *f)
{
    return !str_eq_nocase(f->name, STR("host")) && !field_ends_here(head, f->name) &&
           !(head->status == 101 && str_eq_nocase(f->name, STR("sec-websocket-accept")));
}

/* nghttp2 copies names in lower case. The array, or NULL (it is freed then) if a field could inject
 * something. */
static nghttp2_nv *h2head_add_fields(const struct head *head, nghttp2_nv *nv, size_t *n)
{
    for (size_t i = 0; i < head->nfields; i++) {
        const struct field *f = &head->fields[i];

        if (!h2head_is_sent(head, f))
            continue;
        if (!field_is_token(f->name) || (f->value.n > 0 && !field_is_value(f->value))) {
            free(nv);
            return NULL;
        }
        nv[(*n)++] = h2head_pair(f->name, f->value);
    }
    return nv;
}

nghttp2_nv *h2_head_request(const struct head *head, bool secure, size_t *n)
{
    nghttp2_nv *nv = malloc((head->nfields + 4) * sizeof(*nv));

    *n = 0;
    if (!nv)
        return NULL;
    nv[(*n)++] = h2head_pair(STR(":method"), head->method);
    nv[(*n)++] = h2head_pair(STR(":scheme"), secure ? STR("https") : STR("http"));
    if (head->authority.n > 0)
        nv[(*n)++] = h2head_pair(STR(":authority"), head->authority);
    nv[(*n)++] = h2head_pair(STR(":path"), head->target);
    return h2head_add_fields(head, nv, n);
}

nghttp2_nv *h2_head_response(const struct head *head, char *status, struct str date, size_t *n)
{
    nghttp2_nv *nv = malloc((head->nfields + 2) * sizeof(*nv));

    *n = 0;
    if (!nv)
        return NULL;
    snprintf(status, 4, "%03u", head->status == 101 ? 200 : head->status % 1000);
    nv[(*n)++] = h2head_pair(STR(":status"), str_of(status));
    if (head->status != 101 && !head_find(head, STR("date")))
        nv[(*n)++] = h2head_pair(STR("date"), date);
    return h2head_add_fields(head, nv, n);
}
