/* The list of mistakes in a conf. */
#include "conf/mistake.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct mistake {
    unsigned seq;
    size_t number; /* the order in which it was found: sorts what one word has several of */
    struct str text;
    bool warning;
};

static struct mistake *mistake_add_row(struct mistakes *m)
{
    if (m->count == m->room) {
        size_t room = m->room ? m->room * 2 : 16;
        struct mistake *list = realloc(m->list, room * sizeof(*list));

        if (!list) {
            m->no_memory = true;
            return NULL;
        }
        m->list = list;
        m->room = room;
    }
    m->list[m->count] = (struct mistake){ .number = m->count };
    return &m->list[m->count++];
}

/* Paths and other texts may hold control octets, which could manipulate a terminal or break the
 * line.
 */
static void mistake_make_printable(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

static void mistake_add_text(
    struct mistakes *m, struct place at, bool warning, const char *fmt, va_list ap)
{
    struct mistake *row;
    char text[512];

    if (m->count >= MISTAKES_MAX)
        return;
    row = mistake_add_row(m);
    if (!row)
        return;
    vsnprintf(text, sizeof(text), fmt, ap);
    row->seq = at.seq;
    row->warning = warning;
    m->nwarnings += warning;
    row->text =
        arena_printf(&m->arena, "%s:%u: %s%s", at.file, at.line, warning ? "warning: " : "", text);
    if (row->text.p)
        mistake_make_printable((char *)row->text.p); /* our own copy */
    else
        m->no_memory = true;
}

void mistake_add(struct mistakes *m, struct place at, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    mistake_add_text(m, at, false, fmt, ap);
    va_end(ap);
}

void mistake_warn(struct mistakes *m, struct place at, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    mistake_add_text(m, at, true, fmt, ap);
    va_end(ap);
}

static int mistake_by_place(const void *pa, const void *pb)
{
    const struct mistake *a = pa, *b = pb;

    if (a->seq != b->seq)
        return a->seq < b->seq ? -1 : 1;
    return a->number < b->number ? -1 : a->number > b->number;
}

void mistakes_hand_over(struct mistakes *m, struct conf_errors *out)
{
    static const struct str no_memory = STR_INIT("out of memory while the conf was read");
    size_t extra = m->no_memory || m->count >= MISTAKES_MAX;

    if (m->count > 0)
        qsort(m->list, m->count, sizeof(*m->list), mistake_by_place);
    out->list = calloc(m->count + extra + 1, sizeof(*out->list));
    out->warnings = calloc(m->nwarnings + 1, sizeof(*out->warnings));
    if (!out->list || !out->warnings)
        return;
    /* Without memory a value may be missing that stands in the file: what was said of it is wrong.
     */
    for (size_t i = 0; i < m->count && !m->no_memory; i++) {
        const struct mistake *row = &m->list[i];

        if (row->text.p && row->warning)
            out->warnings[out->nwarnings++] = row->text;
        else if (row->text.p)
            out->list[out->count++] = row->text;
    }
    if (m->no_memory)
        out->list[out->count++] = no_memory;
    else if (extra)
        out->list[out->count++] = STR("there are more mistakes than these: correct them first");
    out->arena = m->arena;
    m->arena = (struct arena){ 0 };
}

void mistakes_release(struct mistakes *m)
{
    free(m->list);
    arena_release(&m->arena);
    *m = (struct mistakes){ 0 };
}

const char *mistake_quote(struct arena *a, struct str s)
{
    enum { SHOWN = 80 };
    bool cut = s.n > SHOWN;
    size_t n = cut ? SHOWN : s.n;
    char *out = arena_alloc(a, n + 6);

    if (!out)
        return "\"\"";
    out[0] = '"';
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        out[i + 1] = c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
    memcpy(out + n + 1, cut ? "...\"" : "\"", cut ? 4 : 1);
    return out;
}

void conf_errors_release(struct conf_errors *errors)
{
    free(errors->list);
    free(errors->warnings);
    arena_release(&errors->arena);
    *errors = (struct conf_errors){ 0 };
}
