/* Line by line: an event's verdict comes with its first choice, or at its end. */
#include "llm/sieve.h"

#include <stdlib.h>

#include "llm/scanner.h"
#include "llm/sse.h"

enum { SIEVE_CHOICES, SIEVE_CHOICE, SIEVE_USAGE };

static const struct scanner_path paths[] = {
    [SIEVE_CHOICES] = { { "choices" } },
    [SIEVE_CHOICE] = { { "choices", "*" } },
    [SIEVE_USAGE] = { { "usage" } },
};

struct sieve {
    struct sse sse;
    struct scanner json;
    struct buf held; /* of the event at hand, while there is no verdict */
    enum { SIEVE_UNDECIDED, SIEVE_PASSES } verdict;
    bool choices, usage; /* the event has these, the first one empty so far */
    bool ended;          /* the last line was the event's end */
    bool dropped;        /* ... and it does not pass */
    bool after_cr;       /* a "\n" that comes now belongs to the line before */
};

static void sieve_on_value(void *owner, unsigned path, const struct scanner_value *v)
{
    struct sieve *s = owner;

    switch (path) {
    case SIEVE_CHOICES:
        s->choices = v->type == SCANNER_ARRAY;
        break;
    case SIEVE_CHOICE:
        s->verdict = SIEVE_PASSES;
        break;
    case SIEVE_USAGE:
        s->usage = v->type == SCANNER_OBJECT;
        break;
    }
}

static void sieve_on_data(void *owner, struct str piece)
{
    struct sieve *s = owner;

    if (!scanner_feed(&s->json, piece))
        s->verdict = SIEVE_PASSES;
}

static void sieve_on_event(void *owner, struct str name, bool has_data)
{
    struct sieve *s = owner;

    s->ended = true;
    s->dropped = s->verdict == SIEVE_UNDECIDED && has_data && name.n == 0 && s->choices &&
                 s->usage && scanner_complete(&s->json);
}

static const struct sse_events events = { .on_data = sieve_on_data, .on_event = sieve_on_event };

struct sieve *sieve_new(void)
{
    struct sieve *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    sse_init(&s->sse, &events, s);
    scanner_init(&s->json, paths, sizeof(paths) / sizeof(*paths), false, sieve_on_value, s);
    return s;
}

void sieve_free(struct sieve *s)
{
    if (!s)
        return;
    buf_release(&s->held);
    free(s);
}

static int sieve_let_go(struct sieve *s, struct buf *out)
{
    int rc = buf_append_str(out, buf_str(&s->held));

    buf_release(&s->held);
    return rc;
}

static void sieve_begin_event(struct sieve *s)
{
    s->verdict = SIEVE_UNDECIDED;
    s->choices = s->usage = s->ended = false;
    scanner_reset(&s->json);
}

/* A piece of one line, with the line's end if it is here. */
static int sieve_take(struct sieve *s, struct str line, struct buf *out)
{
    char last = line.p[line.n - 1];
    bool line_ends = last == '\n' || last == '\r';

    sse_feed(&s->sse, line);
    s->after_cr = last == '\r';
    if (s->ended && s->dropped) {
        buf_release(&s->held);
        sieve_begin_event(s);
        return 0;
    }
    /* Comments, and lines between events, wait for nothing. */
    if (s->ended || (line_ends && !s->sse.has_any) || buf_len(&s->held) + line.n > SIEVE_HELD_MAX)
        s->verdict = SIEVE_PASSES;
    if (s->verdict == SIEVE_UNDECIDED)
        return buf_append_str(&s->held, line);
    if (sieve_let_go(s, out) < 0)
        return -1;
    if (s->ended || (line_ends && !s->sse.has_any))
        sieve_begin_event(s);
    return buf_append_str(out, line);
}

int sieve_feed(struct sieve *s, struct str piece, struct buf *out)
{
    while (piece.n > 0) {
        size_t n = 0;
        int rc;

        if (s->after_cr && piece.p[0] == '\n') {
            /* Of an event that was taken out, this is the rest. */
            s->after_cr = false;
            sse_feed(&s->sse, str_make(piece.p, 1));
            n = 1;
            rc = s->dropped ? 0
                 : s->verdict == SIEVE_UNDECIDED && buf_len(&s->held)
                     ? buf_append(&s->held, "\n", 1)
                     : buf_append(out, "\n", 1);
        } else {
            while (n < piece.n && piece.p[n] != '\n' && piece.p[n] != '\r')
                n++;
            n += n < piece.n;
            s->dropped = false;
            rc = sieve_take(s, str_make(piece.p, n), out);
        }
        if (rc < 0)
            return -1;
        piece = str_make(piece.p + n, piece.n - n);
    }
    return 0;
}

int sieve_end(struct sieve *s, struct buf *out)
{
    return sieve_let_go(s, out);
}
