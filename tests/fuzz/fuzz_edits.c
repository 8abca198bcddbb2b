/* What is changed in bodies as they pass: the first byte picks the change, the second where the
 * body is cut. Whole, in two parts and byte by byte, the same comes out; and what is known of it
 * holds. */
#include "laws.h"
#include "llm/askusage.h"
#include "llm/links.h"
#include "llm/sieve.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

typedef int edits_feed_fn(void *of, struct str piece, struct buf *out);

static int feed_sieve(void *of, struct str piece, struct buf *out)
{
    return sieve_feed(of, piece, out);
}

static int feed_links(void *of, struct str piece, struct buf *out)
{
    return links_feed(of, piece, out);
}

/* Longer, shorter, with a byte that JSON does not allow, or not at all. */
static bool map(void *owner, struct str url, struct buf *out)
{
    HOLDS(url.n <= LINKS_URL_MAX);
    if (url.n == 0 || url.p[0] == 'n')
        return false;
    return buf_append_str(out, url.p[0] == 'q' ? STR("a\"b") : STR("http://tarry.example/")) == 0 &&
           buf_append_str(out, url.p[0] == 's' ? STR("") : url) == 0;
}

static void feed_in_steps(
    edits_feed_fn *feed, void *of, struct str s, size_t first, size_t step, struct buf *out)
{
    HOLDS(feed(of, str_make(s.p, first), out) == 0);
    for (size_t at = first; at < s.n; at += step)
        HOLDS(feed(of, str_make(s.p + at, step < s.n - at ? step : s.n - at), out) == 0);
}

static struct buf sieve_in_steps(struct str s, size_t first, size_t step)
{
    struct sieve *v = sieve_new();
    struct buf out = { 0 };

    feed_in_steps(feed_sieve, v, s, first, step, &out);
    HOLDS(sieve_end(v, &out) == 0);
    sieve_free(v);
    return out;
}

static struct buf links_in_steps(struct str s, size_t first, size_t step)
{
    struct links *l = links_new(map, NULL);
    struct buf out = { 0 };

    feed_in_steps(feed_links, l, s, first, step, &out);
    HOLDS(links_end(l, &out) == 0);
    links_free(l);
    return out;
}

/* The body with the edit; p NULL: there is none. */
static struct buf ask_in_steps(struct str s, size_t first, size_t step)
{
    struct askusage q, again;
    struct askusage_edit e;
    struct buf out = { 0 };

    askusage_init(&q);
    askusage_feed(&q, str_make(s.p, first));
    for (size_t at = first; at < s.n; at += step)
        askusage_feed(&q, str_make(s.p + at, step < s.n - at ? step : s.n - at));
    if (!askusage_edit(&q, &e))
        return out;
    HOLDS(e.start <= e.end && e.end <= s.n);
    buf_append(&out, s.p, (size_t)e.start);
    buf_append_str(&out, e.text);
    buf_append(&out, s.p + e.end, s.n - (size_t)e.end);
    /* What came out is JSON still, and has decided. */
    askusage_init(&again);
    askusage_feed(&again, buf_str(&out));
    HOLDS(!again.bad && scanner_complete(&again.json));
    HOLDS(!askusage_edit(&again, &e));
    return out;
}

static bool is_subsequence(struct str part, struct str whole)
{
    size_t at = 0;

    for (size_t i = 0; i < whole.n && at < part.n; i++)
        at += whole.p[i] == part.p[at];
    return at == part.n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct buf (*const changes[])(
        struct str, size_t, size_t) = { sieve_in_steps, links_in_steps, ask_in_steps };
    struct buf whole, cut, bytes;
    struct str s;
    unsigned which;

    if (n < 2)
        return 0;
    which = data[0] % 3;
    s = str_make((const char *)data + 2, n - 2);
    whole = changes[which](s, s.n, 1);
    cut = changes[which](s, s.n * data[1] / 256, s.n + 1);
    bytes = changes[which](s, 0, 1);
    HOLDS(str_eq(buf_str(&whole), buf_str(&cut)));
    HOLDS(str_eq(buf_str(&whole), buf_str(&bytes)));
    if (which == 0)
        HOLDS(is_subsequence(buf_str(&whole), s));
    buf_release(&whole);
    buf_release(&cut);
    buf_release(&bytes);
    return 0;
}
