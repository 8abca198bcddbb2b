/* The scanner tells where a value begins and ends; the bytes before it have passed. */
#include "llm/links.h"

#include <stdlib.h>

#include "llm/scanner.h"

static const struct scanner_path paths[] = {
    { { "results_url" } },
    { { "data", "*", "results_url" } },
    { { "next" } },
    { { "nextLink" } },
};

struct links {
    struct scanner json;
    links_map_fn *map;
    void *owner;
    struct buf held;   /* from the beginning of a value on that has not ended */
    struct buf mapped; /* scratch */
    struct str data;   /* what is held, and the piece; while it is fed */
    uint64_t base;     /* the document's offset of data, or of what comes next */
    size_t passed;     /* of data */
    struct buf *out;   /* while it is fed */
    bool no_memory, not_json;
};

static void links_pass(struct links *l, size_t to)
{
    if (to > l->passed && buf_append(l->out, l->data.p + l->passed, to - l->passed) < 0)
        l->no_memory = true;
    l->passed = to;
}

/* The text of a string without escapes but "\/", in `to`. False: it has others. */
static bool links_unescape(struct str s, struct buf *to)
{
    while (s.n > 0) {
        ptrdiff_t at = str_find_char(s, '\\');
        size_t n = at < 0 ? s.n : (size_t)at;

        if (at >= 0 && (n + 1 >= s.n || s.p[n + 1] != '/'))
            return false;
        if (buf_append(to, s.p, n) < 0)
            return false;
        s = str_make(s.p + n + (at >= 0), s.n - n - (at >= 0));
        if (at >= 0) {
            if (buf_append(to, "/", 1) < 0)
                return false;
            s = str_make(s.p + 1, s.n - 1);
        }
    }
    return true;
}

/* Whether it can stand in a string of JSON as it is. */
static bool links_is_plain(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '"' || s.p[i] == '\\' || (unsigned char)s.p[i] < 0x20)
            return false;
    return true;
}

static void links_on_value(void *owner, unsigned path, const struct scanner_value *v)
{
    struct links *l = owner;
    struct buf url = { 0 };
    size_t start, end;

    if (v->type != SCANNER_STRING || v->start < l->base + l->passed ||
        v->end - v->start > LINKS_URL_MAX)
        return; /* what has passed stays */
    start = (size_t)(v->start - l->base) + 1;
    end = (size_t)(v->end - l->base) - 1;
    if (links_unescape(str_make(l->data.p + start, end - start), &url) &&
        l->map(l->owner, buf_str(&url), &l->mapped) && links_is_plain(buf_str(&l->mapped))) {
        links_pass(l, start);
        if (buf_append_str(l->out, buf_str(&l->mapped)) < 0)
            l->no_memory = true;
        l->passed = end;
    }
    buf_release(&l->mapped);
    buf_release(&url);
}

struct links *links_new(links_map_fn *map, void *owner)
{
    struct links *l = calloc(1, sizeof(*l));

    if (!l)
        return NULL;
    l->map = map;
    l->owner = owner;
    scanner_init(&l->json, paths, sizeof(paths) / sizeof(*paths), false, links_on_value, l);
    return l;
}

void links_free(struct links *l)
{
    if (!l)
        return;
    buf_release(&l->held);
    buf_release(&l->mapped);
    free(l);
}

/* Up to where the data can pass: the beginning of a value that has not ended. */
static size_t links_ready(const struct links *l)
{
    uint64_t start;

    if (l->not_json || !scanner_is_in_match(&l->json, &start) || start < l->base ||
        l->base + l->data.n - start > LINKS_URL_MAX)
        return l->data.n;
    return (size_t)(start - l->base);
}

int links_feed(struct links *l, struct str piece, struct buf *out)
{
    bool held = buf_len(&l->held) > 0;
    size_t ready;

    if (held && buf_append_str(&l->held, piece) < 0)
        return -1;
    l->out = out;
    l->data = held ? buf_str(&l->held) : piece;
    l->passed = 0;
    l->not_json = l->not_json || !scanner_feed(&l->json, piece);
    ready = links_ready(l);
    links_pass(l, ready > l->passed ? ready : l->passed);
    l->base += ready;
    if (held)
        buf_consume(&l->held, ready);
    else if (ready < piece.n && buf_append(&l->held, piece.p + ready, piece.n - ready) < 0)
        l->no_memory = true;
    return l->no_memory ? -1 : 0;
}

int links_end(struct links *l, struct buf *out)
{
    int rc = buf_append_str(out, buf_str(&l->held));

    buf_release(&l->held);
    return rc;
}
