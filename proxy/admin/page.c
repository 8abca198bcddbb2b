/* A page may be far larger than what a connection queues (output_max): it is sent in pieces. */
#include "admin/page.h"

#include <stdlib.h>

#include "base/arena.h"
#include "http/head.h"
#include "net/loop.h"

/* Pages show what clients have sent: no script but the dashboard's own may run. Bars have their
 * width by style. */
#define PAGE_POLICY                                                                                \
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src "                        \
    "'self'; "                                                                                     \
    "img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

enum { PIECE = 16 << 10 };

struct page {
    struct stream *stream;
    struct buf body;
    struct deferred_free deferred_free;
};

static void page_free(void *what)
{
    struct page *p = what;

    buf_release(&p->body);
    free(p);
}

static void page_end(struct page *p)
{
    stream_close(p->stream);
    p->stream = NULL;
    loop_free_later(&p->deferred_free, p, page_free);
}

/* After an error MESSAGE_FAILED follows. */
static void page_push(struct page *p)
{
    while (buf_len(&p->body) > 0) {
        size_t n = buf_len(&p->body) < PIECE ? buf_len(&p->body) : PIECE;
        int r = stream_send_data(p->stream, buf_str(&p->body).p, n);

        if (r < 0 && r != STREAM_FULL)
            return;
        buf_consume(&p->body, n);
        if (r == STREAM_FULL)
            return;
    }
    if (stream_send_end(p->stream) >= 0)
        page_end(p);
}

static void page_on_drained(void *owner, struct stream *s)
{
    page_push(owner);
}

static void page_on_message(void *owner, struct stream *s, const struct message *m)
{
    if (m->kind == MESSAGE_FAILED)
        page_end(owner);
}

static const struct stream_handler page_handler = { .on_message = page_on_message,
    .on_drained = page_on_drained };

static int page_send_head(
    struct stream *s, struct arena *a, unsigned status, struct str type, size_t n)
{
    struct head head = { .status = status, .minor = 1 };

    if (head_add(&head, a, STR("Content-Type"), type) < 0 ||
        head_add(&head, a, STR("Cache-Control"), STR("no-store")) < 0 ||
        head_add(&head, a, STR("X-Content-Type-Options"), STR("nosniff")) < 0 ||
        head_add(&head, a, STR("Content-Security-Policy"), STR(PAGE_POLICY)) < 0 ||
        head_add(&head, a, STR("Referrer-Policy"), STR("no-referrer")) < 0 ||
        head_add(&head, a, STR("Content-Length"), arena_printf(a, "%zu", n)) < 0)
        return -1;
    return stream_send_head(s, &head, false);
}

/* No memory: a cut connection says so better than silence. */
static void page_fail(struct stream *s, struct buf *body)
{
    buf_release(body);
    stream_set_owner(s, NULL, NULL);
    stream_reset(s, STREAM_ABORT);
    stream_close(s);
}

void page_send(struct stream *s, unsigned status, struct str type, struct buf *body)
{
    struct page *p = calloc(1, sizeof(*p));
    struct arena a = { 0 };
    int r;

    if (!p) {
        page_fail(s, body);
        return;
    }
    p->stream = s;
    stream_set_owner(s, &page_handler, p);
    r = page_send_head(s, &a, status, type, buf_len(body));
    arena_release(&a);
    if (r < 0 && r != STREAM_FULL) {
        free(p);
        page_fail(s, body);
        return;
    }
    p->body = *body;
    *body = (struct buf){ 0 };
    if (r != STREAM_FULL)
        page_push(p);
}

void page_send_text(struct stream *s, unsigned status, const char *text)
{
    struct buf b = { 0 };

    if (buf_append_str(&b, str_of(text)) < 0)
        page_fail(s, &b);
    else
        page_send(s, status, STR("text/plain; charset=utf-8"), &b);
}
