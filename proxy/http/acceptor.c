/* The lists of client connections, and what is done to all of them. */
#include "http/acceptor.h"

void acceptor_init(struct acceptor *a)
{
    list_init(&a->arriving);
    list_init(&a->idle);
    list_init(&a->busy);
}

/* Each is moved aside first: what one of them does may end others. */
void acceptor_drain(struct acceptor *a)
{
    struct list *lists[] = { &a->idle, &a->busy };

    a->draining = true;
    for (size_t i = 0; i < 2; i++) {
        struct list rest;

        list_init(&rest);
        while (list_first(lists[i]))
            list_push(&rest, list_first(lists[i]));
        while (list_first(&rest)) {
            struct accepted *c = LIST_OWNER(list_first(&rest), struct accepted, node);

            list_push(lists[i], &c->node);
            c->ops->drain(c);
        }
    }
}

void acceptor_close(struct acceptor *a)
{
    struct list *lists[] = { &a->arriving, &a->idle, &a->busy };

    for (size_t i = 0; i < 3; i++) {
        while (list_first(lists[i])) {
            struct accepted *c = LIST_OWNER(list_first(lists[i]), struct accepted, node);

            c->ops->cut(c);
        }
    }
}

size_t acceptor_make_room(struct acceptor *a, size_t n)
{
    size_t ended = 0;

    LIST_EACH(at, &a->idle) {
        struct accepted *c = LIST_OWNER(at, struct accepted, node);

        if (ended == n)
            break;
        ended += c->ops->retire(c);
    }
    return ended;
}

struct pace_limits acceptor_body_pace(const struct acceptor *a)
{
    return (struct pace_limits){ a->body_timeout_ms, a->body_rate_min, a->rate_window_ms };
}

struct pace_limits acceptor_send_pace(const struct acceptor *a)
{
    return (struct pace_limits){ a->send_timeout_ms, a->send_rate_min, a->rate_window_ms };
}

size_t acceptor_count(const struct acceptor *a)
{
    return a->arriving.count + a->idle.count + a->busy.count;
}
