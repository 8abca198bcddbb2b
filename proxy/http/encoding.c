/* Content codings: Accept-Encoding, and heads. */
#include "http/encoding.h"

#include "base/num.h"

enum { WEIGHT_MAX = 1000 }; /* a qvalue in thousandths (RFC 9110 12.4.2) */

static const struct str names[ENCODING_COUNT] = { [ENCODING_IDENTITY] = STR_INIT("identity"),
    [ENCODING_GZIP] = STR_INIT("gzip"),
    [ENCODING_BR] = STR_INIT("br"),
    [ENCODING_ZSTD] = STR_INIT("zstd") };

struct str encoding_name(enum encoding e)
{
    return names[e];
}

static bool encoding_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* "0.5" as 500; a malformed weight is 0: not wanted. */
static unsigned encoding_parse_weight(struct str s)
{
    unsigned v;

    if (s.n == 0 || (s.p[0] != '0' && s.p[0] != '1') || s.n > 5 || (s.n > 1 && s.p[1] != '.'))
        return 0;
    v = s.p[0] == '1' ? WEIGHT_MAX : 0;
    for (size_t i = 2, unit = 100; i < s.n; i++, unit /= 10) {
        if (!encoding_is_digit(s.p[i]))
            return 0;
        v += (unsigned)((size_t)(s.p[i] - '0') * unit);
    }
    return v > WEIGHT_MAX ? 0 : v;
}

/* Splits "gzip; q=0.5". */
static struct str encoding_parse_element(struct str element, unsigned *weight)
{
    struct str name, parameters, one, key, value;

    *weight = WEIGHT_MAX;
    str_cut(element, ';', &name, &parameters);
    while (parameters.n > 0) {
        str_cut(parameters, ';', &one, &parameters);
        str_cut(one, '=', &key, &value);
        if (str_eq_nocase(str_trim(key), STR("q")))
            *weight = encoding_parse_weight(str_trim(value));
    }
    return str_trim(name);
}

enum { UNSAID = -1 };

struct preferences {
    int weight[ENCODING_COUNT]; /* UNSAID: not named */
    int rest;                   /* of "*" */
    bool any;
};

static void encoding_take(struct preferences *w, struct str name, unsigned weight)
{
    if (str_eq(name, STR("*")))
        w->rest = (int)weight;
    for (int e = 0; e < ENCODING_COUNT; e++)
        if (str_eq_nocase(name, names[e]))
            w->weight[e] = (int)weight;
    if (str_eq_nocase(name, STR("x-gzip"))) /* RFC 9110 8.4.1.3 */
        w->weight[ENCODING_GZIP] = (int)weight;
}

static struct preferences encoding_read_preferences(const struct head *request)
{
    struct preferences w = { .rest = UNSAID };

    for (int e = 0; e < ENCODING_COUNT; e++)
        w.weight[e] = UNSAID;
    for (size_t i = 0; i < request->nfields; i++) {
        struct str rest = request->fields[i].value, element;

        if (!str_eq_nocase(request->fields[i].name, STR("accept-encoding")))
            continue;
        w.any = true;
        while (str_next_element(&rest, &element)) {
            unsigned weight;
            struct str name = encoding_parse_element(element, &weight);

            encoding_take(&w, name, weight);
        }
    }
    return w;
}

static int encoding_weight_of(const struct preferences *w, enum encoding e)
{
    if (w->weight[e] != UNSAID)
        return w->weight[e];
    return w->rest != UNSAID ? w->rest : 0;
}

enum encoding encoding_choose(
    const struct head *request, const enum encoding *offered, size_t noffered)
{
    struct preferences w = encoding_read_preferences(request);
    /* Not named, it is what remains when nothing else fits, not what is liked. */
    int best_weight = w.weight[ENCODING_IDENTITY] > 0 ? w.weight[ENCODING_IDENTITY] - 1 : 0;
    enum encoding best = ENCODING_IDENTITY;

    for (size_t i = 0; i < noffered && w.any; i++) {
        int weight = encoding_weight_of(&w, offered[i]);

        if (weight > best_weight) {
            best_weight = weight;
            best = offered[i];
        }
    }
    return best;
}

static bool encoding_is_listed(struct str type, const struct str *types, size_t ntypes)
{
    for (size_t i = 0; i < ntypes; i++) {
        bool family = types[i].p[types[i].n - 1] == '/';

        if (family ? str_starts_with_nocase(type, types[i]) : str_eq_nocase(type, types[i]))
            return true;
    }
    return false;
}

bool encoding_suits(
    const struct head *response, const struct str *types, size_t ntypes, size_t min_size)
{
    const struct field *length = head_find(response, STR("content-length"));
    struct str type, parameters;
    uint64_t n;

    if (response->status < 200 || response->status == 204 || response->status == 205 ||
        response->status == 206 || response->status == 304)
        return false;
    if (head_find(response, STR("content-encoding")) || head_find(response, STR("content-range")) ||
        head_has_token(response, STR("cache-control"), STR("no-transform")))
        return false;
    str_cut(head_value(response, STR("content-type")), ';', &type, &parameters);
    type = str_trim(type);
    if (type.n == 0 || str_eq_nocase(type, STR("text/event-stream")) ||
        !encoding_is_listed(type, types, ntypes))
        return false;
    return !length || (num_parse_u64(length->value, &n) && n >= min_size && n > 0);
}

int encoding_add_vary(struct head *response, struct arena *a)
{
    if (head_has_token(response, STR("vary"), STR("accept-encoding")) ||
        head_has_token(response, STR("vary"), STR("*")))
        return 0;
    return head_add(response, a, STR("Vary"), STR("Accept-Encoding"));
}

/* Content-Digest and Repr-Digest (RFC 9530), their elders, and what invites ranges of bytes that
 * are made anew each time. */
static bool encoding_tells_of_bytes(struct str name)
{
    return str_eq_nocase(name, STR("content-length")) || str_eq_nocase(name, STR("content-md5")) ||
           str_eq_nocase(name, STR("content-digest")) || str_eq_nocase(name, STR("repr-digest")) ||
           str_eq_nocase(name, STR("digest")) || str_eq_nocase(name, STR("accept-ranges"));
}

int encoding_make_head(
    struct arena *a, const struct head *response, enum encoding e, struct head *out)
{
    *out = *response;
    out->fields = NULL;
    out->nfields = out->room = 0;
    for (size_t i = 0; i < response->nfields; i++) {
        struct field f = response->fields[i];

        if (encoding_tells_of_bytes(f.name))
            continue;
        if (str_eq_nocase(f.name, STR("etag")) && f.value.n > 0 && f.value.p[0] == '"')
            f.value = arena_printf(a, "W/" STR_FMT, STR_ARG(f.value));
        if (!f.value.p || head_add(out, a, f.name, f.value) < 0)
            return -1;
    }
    if (head_add(out, a, STR("Content-Encoding"), names[e]) < 0)
        return -1;
    return encoding_add_vary(out, a);
}
