/* Making a value that fits a schema. */
#include "sample.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* A schema that refers to itself has no last level: from OPTIONAL_DEPTH on only what is required is
 * made, and from DEPTH_MAX on nothing. */
#define OPTIONAL_DEPTH 4
#define DEPTH_MAX 24
#define ITEMS_MAX 16

struct sample {
    struct json root;
    const char *words;
    struct text *to;
};

static void add_value(const struct sample *s, struct json schema, int depth);

/* Gemini writes types in capitals. */
static bool type_is(struct json type, const char *word)
{
    size_t n = strlen(word);

    return type.n == n + 2 && *type.p == '"' && strncasecmp(type.p + 1, word, n) == 0;
}

/* The first type that is not null, where there are several. */
static struct json first_type(struct json schema)
{
    struct json type = { 0 }, one;

    if (!json_member(schema, "type", &type) || !json_is_array(type))
        return type;
    for (size_t at = 0; json_item(type, &at, &one);)
        if (!type_is(one, "null"))
            return one;
    return (struct json){ "\"null\"", 6 };
}

/* "#/$defs/Name": RFC 6901 without escapes, which no generator of schemas needs. */
static bool follow(const struct sample *s, struct json reference, struct json *schema)
{
    struct text path = { 0 }, name = { 0 };
    struct json at = s->root;
    bool found = json_string(reference, &path) && path.n > 0 && path.p[0] == '#';
    const char *p = found ? path.p + 1 : NULL;

    while (found && *p == '/') {
        size_t n = strcspn(p + 1, "/");

        name.n = 0;
        text_add(&name, p + 1, n);
        found = json_member(at, name.p, &at);
        p += 1 + n;
    }
    text_free(&path);
    text_free(&name);
    *schema = at;
    return found;
}

static bool is_null(struct json schema)
{
    return type_is(first_type(schema), "null");
}

/* The schema of a reference, or of the first choice that is not null. False if there is none. */
static bool chosen(const struct sample *s, struct json schema, struct json *choice)
{
    static const char *const names[] = { "anyOf", "any_of", "oneOf", "allOf" };
    struct json value;

    if (json_member(schema, "$ref", &value))
        return follow(s, value, choice);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!json_member(schema, names[i], &value))
            continue;
        for (size_t at = 0; json_item(value, &at, choice);)
            if (!is_null(*choice))
                return true;
    }
    return false;
}

static bool is_required(struct json schema, struct json name)
{
    struct json required, one;

    if (!json_member(schema, "required", &required))
        return false;
    for (size_t at = 0; json_item(required, &at, &one);)
        if (one.n == name.n && memcmp(one.p, name.p, name.n) == 0)
            return true;
    return false;
}

static void add_object(const struct sample *s, struct json schema, int depth)
{
    struct json properties, name, value;
    const char *comma = "";

    text_puts(s->to, "{");
    if (json_member(schema, "properties", &properties))
        for (size_t at = 0; json_pair(properties, &at, &name, &value);) {
            if (depth >= OPTIONAL_DEPTH && !is_required(schema, name))
                continue;
            text_puts(s->to, comma);
            text_add(s->to, name.p, name.n);
            text_puts(s->to, ":");
            add_value(s, value, depth + 1);
            comma = ",";
        }
    text_puts(s->to, "}");
}

/* A number as JSON or, in Gemini's dialect, as a string. */
static bool number(struct json schema, const char *name, double *to)
{
    struct json value;
    struct text digits = { 0 };

    if (!json_member(schema, name, &value))
        return false;
    if (!json_string(value, &digits))
        text_add(&digits, value.p, value.n);
    *to = strtod(digits.n ? digits.p : "0", NULL);
    text_free(&digits);
    return true;
}

static void add_array(const struct sample *s, struct json schema, int depth)
{
    struct json items = { "{}", 2 }, item;
    double least = 1;
    const char *comma = "";

    text_puts(s->to, "[");
    if (json_member(schema, "prefixItems", &items)) {
        for (size_t at = 0; json_item(items, &at, &item); comma = ",") {
            text_puts(s->to, comma);
            add_value(s, item, depth + 1);
        }
    } else {
        json_member(schema, "items", &items);
        number(schema, "minItems", &least);
        if (least < 1 && depth < OPTIONAL_DEPTH)
            least = 1;
        for (int i = 0; i < ITEMS_MAX && i < (int)least; i++, comma = ",") {
            text_puts(s->to, comma);
            add_value(s, items, depth + 1);
        }
    }
    text_puts(s->to, "]");
}

static void add_number(const struct sample *s, struct json schema)
{
    double x = 1, bound;

    if (number(schema, "minimum", &bound) && bound > x)
        x = bound;
    if (number(schema, "exclusiveMinimum", &bound) && bound >= x)
        x = bound + 1;
    if (number(schema, "maximum", &bound) && bound < x)
        x = bound;
    if (number(schema, "exclusiveMaximum", &bound) && bound <= x)
        x = bound - 1;
    text_printf(s->to, "%.15g", x);
}

static void add_string(const struct sample *s, struct json schema)
{
    static const struct {
        const char *format, *value;
    } formats[] = { { "date-time", "2026-01-31T12:00:00Z" }, { "date", "2026-01-31" },
        { "time", "12:00:00Z" }, { "duration", "PT1H" }, { "email", "echo@example.com" },
        { "uri", "https://example.com/" }, { "uuid", "00000000-0000-4000-8000-000000000000" } };
    size_t n = strlen(s->words);
    struct json format;
    double most;

    if (json_member(schema, "format", &format))
        for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
            if (json_equals(format, formats[i].format)) {
                text_json_str(s->to, formats[i].value);
                return;
            }
    if (number(schema, "maxLength", &most) && most >= 0 && most < (double)n)
        n = text_utf8_cut(s->words, n, (size_t)most);
    text_json(s->to, s->words, n, TEXT_UTF8);
}

static void add_value(const struct sample *s, struct json schema, int depth)
{
    struct json value, type;

    if (depth > DEPTH_MAX) {
        text_puts(s->to, "null");
        return;
    }
    if (json_member(schema, "const", &value)) {
        text_add(s->to, value.p, value.n);
        return;
    }
    if (json_member(schema, "enum", &value)) {
        size_t at = 0;

        if (json_item(value, &at, &type)) {
            text_add(s->to, type.p, type.n);
            return;
        }
    }
    if (chosen(s, schema, &value)) {
        add_value(s, value, depth + 1);
        return;
    }
    type = first_type(schema);
    if (type_is(type, "object") || (!type.n && json_member(schema, "properties", &value)))
        add_object(s, schema, depth);
    else if (type_is(type, "array"))
        add_array(s, schema, depth);
    else if (type_is(type, "integer") || type_is(type, "number"))
        add_number(s, schema);
    else if (type_is(type, "boolean"))
        text_puts(s->to, "true");
    else if (type_is(type, "null"))
        text_puts(s->to, "null");
    else
        add_string(s, schema);
}

void sample_add(struct json schema, const char *words, struct text *to)
{
    struct sample s = { .root = schema, .words = words, .to = to };

    if (schema.n) {
        add_value(&s, schema, 0);
        return;
    }
    text_puts(to, "{\"text\":");
    text_json_str(to, words);
    text_puts(to, "}");
}
