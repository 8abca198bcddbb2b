/* By the upstream's affinity, and by what the account of an endpoint keeps. */
#include "exchange/callplace.h"

#include "conf/value.h"
#include "upstream/conversation.h"
#include "upstream/home.h"
#include "upstream/rewrite.h"

static uint64_t callplace_hash(struct str s)
{
    uint64_t h = UINT64_C(14695981039346656037); /* FNV-1a */

    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * UINT64_C(1099511628211);
    return h;
}

static void callplace_take(struct callplace *p, struct str value)
{
    p->has_key = value.n > 0;
    p->key = callplace_hash(value);
}

static void callplace_take_credential(struct callplace *p, const struct head *head)
{
    for (size_t i = 0; i < head->nfields; i++)
        if (value_is_credential(head->fields[i].name))
            callplace_take(p, head->fields[i].value);
}

static void callplace_find_key(struct callplace *p, const struct selector_conf *by,
    const struct head *head, const struct piece *body, const struct addr *client)
{
    switch (by->kind) {
    case SELECTOR_NONE:
        break;
    case SELECTOR_HEADER:
        callplace_take(p, head_value(head, by->name));
        break;
    case SELECTOR_FIELD:
        p->has_key = rewrite_field_hash(body, by->name, &p->key);
        break;
    case SELECTOR_PROMPT:
        p->has_key = conversation_key(body, &p->key);
        break;
    case SELECTOR_ADDRESS:
        if (client)
            callplace_take(p, str_make((const char *)client->ip, sizeof(client->ip)));
        break;
    case SELECTOR_CREDENTIAL:
        callplace_take_credential(p, head);
        break;
    case SELECTOR_TENANT: /* of limits only */
        break;
    }
}

bool callplace_matters(const struct upstream_conf *u)
{
    return u->nendpoints > 1 && (u->stateful || u->affinity.kind != SELECTOR_NONE);
}

void callplace_find(struct callplace *p, const struct upstream_conf *u, const struct head *head,
    const struct piece *body, const struct addr *client)
{
    enum home_found found = HOME_ANYWHERE;
    unsigned place = 0;

    *p = (struct callplace){ .only = -1 };
    if (u->stateful)
        found = home_find(u, head, body, &place);
    if (found == HOME_ANYWHERE)
        callplace_find_key(p, &u->affinity, head, body, client);
    if (found == HOME_AT)
        p->only = (signed char)place;
    p->gone = found == HOME_GONE;
}
