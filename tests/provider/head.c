/* The head of an answer. */
#include "head.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

void head_release(struct head *h)
{
    text_free(&h->fields);
}

void head_add(struct head *h, const char *name, const char *value)
{
    text_add(&h->fields, name, strlen(name) + 1);
    text_add(&h->fields, value, strlen(value) + 1);
}

void head_addf(struct head *h, const char *name, const char *format, ...)
{
    char value[512];
    va_list args;

    va_start(args, format);
    vsnprintf(value, sizeof value, format, args);
    va_end(args);
    head_add(h, name, value);
}

void head_add_date(struct head *h, const char *name, time_t when)
{
    char date[64];
    struct tm tm;

    gmtime_r(&when, &tm);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    head_add(h, name, date);
}

bool head_next(const struct text *fields, size_t *at, const char **name, const char **value)
{
    if (*at >= fields->n)
        return false;
    *name = fields->p + *at;
    *value = *name + strlen(*name) + 1;
    *at = (size_t)(*value - fields->p) + strlen(*value) + 1;
    return true;
}

static bool names(const struct text *fields, const char *wanted)
{
    const char *name, *value;

    for (size_t at = 0; head_next(fields, &at, &name, &value);)
        if (strcasecmp(name, wanted) == 0)
            return true;
    return false;
}

void head_replace(struct head *h, const struct text *fields)
{
    struct text old = h->fields;
    const char *name, *value;

    h->fields = (struct text){ 0 };
    for (size_t at = 0; head_next(&old, &at, &name, &value);)
        if (!names(fields, name))
            head_add(h, name, value);
    text_add(&h->fields, fields->p, fields->n);
    text_free(&old);
}
