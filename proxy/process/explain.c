/* By the same function that admits requests. */
#include "process/explain.h"

#include <stdio.h>

#include "base/url.h"
#include "conf/draft.h"
#include "conf/print.h"
#include "frontend/admission.h"
#include "http/head.h"

/* Reads e->url into a head; false after a message. */
static bool explain_read_url(const struct explain *e, struct arena *a, struct head *h)
{
    struct str text = str_of(e->url);
    struct url url;
    int err = 0;

    *h = (struct head){ .method = STR("GET"), .target = text };
    if (text.n > 0 && text.p[0] == '/') {
        if (!url_is_origin_form(text))
            err = URL_E_TARGET;
    } else {
        err = url_parse_absolute(text, &url);
        if (err == 0 && url.target.p[0] != '/') /* "?query" */
            h->target = arena_printf(a, "/" STR_FMT, STR_ARG(url.target));
        else if (err == 0)
            h->target = url.target;
        if (err == 0)
            h->authority = url.host;
    }
    if (err == 0)
        return true;
    fprintf(stderr, "tarry: \"%s\": %s; write a path, or http://HOST/PATH\n", e->url,
        url_strerror(err));
    return false;
}

static const struct draft_section *explain_find(
    const struct draft *d, enum opt_section_id id, const void *base)
{
    for (size_t i = 0; i < d->nsections; i++)
        if (d->sections[i].id == id && d->sections[i].base == base)
            return &d->sections[i];
    return NULL;
}

static void explain_print(
    const struct draft *d, const char *what, const struct draft_section *s, bool whole)
{
    if (!s)
        return;
    printf("%s \"" STR_FMT "\" (%s:%u)\n", what, STR_ARG(s->title), s->place.file, s->place.line);
    if (whole)
        print_section(d, s, stdout);
}

static void explain_route(const struct draft *d, const struct route_conf *r)
{
    const struct draft_section *route = explain_find(d, SECTION_ROUTE, r);
    const struct draft_section *to = explain_find(d, SECTION_WORKERS, r->pool);

    explain_print(d, "route", route, true);
    explain_print(d, "workers", to, true);
    for (const struct draft_section *s = to ? to + 1 : NULL;
         s && s < d->sections + d->nsections && s->id == SECTION_SERVER; s++)
        explain_print(d, "server", s, true);
    explain_print(d, "upstream", explain_find(d, SECTION_UPSTREAM, r->upstream), true);
    printf("for the whole proxy\n");
    print_section(d, &d->sections[0], stdout);
}

void explain_look(void *owner, const struct draft *d)
{
    struct explain *e = owner;
    const struct route_conf *r;
    struct arena a = { 0 };
    struct head h;
    bool bad;

    if (!explain_read_url(e, &a, &h))
        return;
    r = admission_find_route(d->conf, &h, &bad);
    if (bad) {
        printf("400: the path climbs above the root, or holds a NUL or an overlong UTF-8 form\n");
    } else if (!r) {
        printf(
            "404: no route has this path%s\n", h.authority.n ? "" : " for a request without host");
    } else if (r->internal) {
        printf("404 for clients: the route is internal, for resumes and notifies\n");
        explain_print(d, "route", explain_find(d, SECTION_ROUTE, r), true);
    } else {
        e->served = true;
        if (r->health != ROUTE_HEALTH_OFF)
            printf("answered by Tarry itself (health)\n");
        explain_route(d, r);
    }
    arena_release(&a);
}
