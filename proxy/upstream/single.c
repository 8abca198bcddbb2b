/* Dialled, used once, closed. */
#include "upstream/single.h"

#include <stdlib.h>

#include "http/h1client.h"
#include "net/loop.h"

struct single {
    struct list_node node;
    struct dial *dial;    /* until it is connected */
    struct h1_client *h1; /* afterwards */
    const struct h1_limits *limits;
    single_answer_fn *on_answer; /* NULL: answered */
    void *owner;
    struct deferred_free deferred_free;
    bool closed;
};

static void single_free(void *what)
{
    free(what);
}

void single_close(struct single *s)
{
    if (!s || s->closed)
        return;
    s->closed = true;
    s->on_answer = NULL;
    list_remove(&s->node);
    loop_free_later(&s->deferred_free, s, single_free);
    dial_close(s->dial);
    if (s->h1)
        h1_client_close(s->h1);
    s->dial = NULL;
    s->h1 = NULL;
}

static void single_answer(
    struct single *s, struct stream *stream, enum stream_error error, const char *why)
{
    single_answer_fn *on_answer = s->on_answer;

    s->on_answer = NULL;
    if (!stream)
        single_close(s);
    on_answer(s->owner, stream, error, why);
}

/* An answer that was no WebSocket leaves the connection idle: it is closed all the same. */
static void single_on_h1(void *owner, struct h1_client *h1, enum h1_client_event ev)
{
    struct single *s = owner;

    switch (ev) {
    case H1_CLIENT_CLOSED:
        s->h1 = NULL;
        break;
    case H1_CLIENT_IDLE:
        break;
    }
    single_close(s);
}

static void single_on_dialled(
    void *owner, struct conn *conn, enum stream_error error, const char *why)
{
    struct single *s = owner;

    s->dial = NULL;
    if (!conn) {
        single_answer(s, NULL, error, why);
        return;
    }
    s->h1 = h1_client_open(conn, s->limits, single_on_h1, s);
    if (!s->h1)
        single_answer(s, NULL, STREAM_E_MEMORY, "out of memory");
    else
        single_answer(s, h1_client_begin(s->h1), 0, "");
}

struct single *single_open(struct list *list, struct resolver *r, const struct dial_target *t,
    const struct h1_limits *limits, single_answer_fn *on_answer, void *owner)
{
    struct single *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->limits = limits;
    s->on_answer = on_answer;
    s->owner = owner;
    s->dial = dial_open(r, t, single_on_dialled, s);
    if (!s->dial) {
        free(s);
        return NULL;
    }
    list_push(list, &s->node);
    return s;
}

void single_close_all(struct list *list)
{
    struct list_node *n;

    while ((n = list_first(list))) {
        struct single *s = LIST_OWNER(n, struct single, node);

        if (s->on_answer)
            single_answer(s, NULL, STREAM_E_CONNECT, "closing down");
        else
            single_close(s);
    }
}
