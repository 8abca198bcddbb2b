/* The conf of the command line. */
#include "process/quick.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

bool quick_add(const char **list, size_t *n, const char *value)
{
    if (*n == QUICK_MAX)
        return false;
    list[(*n)++] = value;
    return true;
}

static int quick_say(struct buf *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int quick_say(struct buf *out, const char *fmt, ...)
{
    char line[2048];
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    return n < 0 || (size_t)n >= sizeof(line) ? -1 : buf_append(out, line, (size_t)n);
}

/* A value in single quotes; one that could leave them is shown as it stands by the message about
 * it. */
static int quick_say_quoted(struct buf *out, struct str value)
{
    if (str_find_char(value, '\'') >= 0 || str_find_char(value, '\\') >= 0)
        return -1;
    return quick_say(out, "'" STR_FMT "'", STR_ARG(value));
}

/* "openai" of https://api.openai.com: the first label of the host that says something. */
static struct str quick_name_of(struct str origin)
{
    struct str host = origin, label, rest;
    ssize_t at = str_find_char(origin, '/');

    if (at >= 0 && (size_t)at + 2 < origin.n)
        host = str_make(origin.p + at + 2, origin.n - (size_t)at - 2);
    if (str_starts_with(host, STR("api.")))
        host = str_make(host.p + 4, host.n - 4);
    str_cut(host, '.', &label, &rest);
    str_cut(label, ':', &label, &rest);
    return label;
}

static int quick_make_backend(struct buf *out, const char *value)
{
    struct str address, slots;

    if (!str_cut(str_of(value), ',', &address, &slots))
        slots = STR("1");
    if (quick_say(out, "    server ") < 0 || quick_say_quoted(out, address) < 0 ||
        quick_say(out, " { slots = ") < 0 || quick_say_quoted(out, slots) < 0)
        return -1;
    return quick_say(out, " }\n");
}

static int quick_make_upstream(struct buf *out, const char *value, struct str *name)
{
    struct str origin;

    if (!str_cut(str_of(value), '=', name, &origin)) {
        origin = str_of(value);
        *name = quick_name_of(origin);
    }
    if (quick_say(out, "upstream ") < 0 || quick_say_quoted(out, *name) < 0 ||
        quick_say(out, " { origin = ") < 0 || quick_say_quoted(out, origin) < 0)
        return -1;
    return quick_say(out, " }\n");
}

int quick_make(const struct quick_options *o, struct buf *out, const char **why)
{
    struct str first = { 0 }, name;
    int err = 0;

    *why = "a value is too long, or holds ' or \\; write a conf file instead";
    if (o->nlistens == 0)
        return *why = "--listen ADDRESS is missing, such as --listen 127.0.0.1:8080", -1;
    if (o->nbackends == 0 && o->nupstreams == 0)
        return *why = "--backend ADDRESS is missing, such as --backend 127.0.0.1:8000", -1;
    for (size_t i = 0; i < o->nlistens && err == 0; i++) {
        err |= quick_say(out, "listen ");
        err |= quick_say_quoted(out, str_of(o->listens[i]));
        err |= quick_say(out, " { }\n");
    }
    if (o->nbackends > 0)
        err |= quick_say(out, "workers \"app\" {\n");
    for (size_t i = 0; i < o->nbackends; i++)
        err |= quick_make_backend(out, o->backends[i]);
    if (o->nbackends > 0)
        err |= quick_say(out, "}\n");
    for (size_t i = 0; i < o->nupstreams; i++) {
        err |= quick_make_upstream(out, o->upstreams[i], &name);
        if (i == 0)
            first = name;
    }
    if (o->nbackends > 0)
        err |= quick_say(out, "route \"/\" { workers = \"app\" }\n");
    else
        err |= quick_say(out, "route \"/\" { upstream = \"" STR_FMT "\" }\n", STR_ARG(first));
    err |= buf_append(out, "", 1);
    return err < 0 ? -1 : 0;
}
