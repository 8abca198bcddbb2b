/* Prefixes that end with a slash take each other's place. */
#include "exchange/routepath.h"

#include "base/url.h"

bool routepath_fits(const struct route_conf *r, struct str target)
{
    struct arena scratch = { 0 };
    struct str path;
    bool ok;

    if (r->prefix_rewrite.n == 0 || str_eq(target, STR("*")))
        return true;
    if (!str_starts_with(target, r->prefix))
        return false;
    /* From the slash at the prefix's end. */
    ok = url_normalise_path(
        &scratch, str_make(target.p + r->prefix.n - 1, target.n - r->prefix.n + 1), &path);
    arena_release(&scratch);
    return ok;
}

static struct str routepath_replace(
    struct arena *a, struct str target, struct str prefix, struct str by)
{
    if (!str_starts_with(target, prefix))
        return (struct str){ 0 };
    return arena_printf(a, STR_FMT STR_FMT, STR_ARG(by),
        STR_ARG(str_make(target.p + prefix.n, target.n - prefix.n)));
}

struct str routepath_out(const struct route_conf *r, struct arena *a, struct str target)
{
    if (r->prefix_rewrite.n == 0 || str_eq(target, STR("*")))
        return target;
    return routepath_replace(a, target, r->prefix, r->prefix_rewrite);
}

struct str routepath_back(const struct route_conf *r, struct arena *a, struct str target)
{
    if (r->prefix_rewrite.n == 0)
        return target;
    return routepath_replace(a, target, r->prefix_rewrite, r->prefix);
}
