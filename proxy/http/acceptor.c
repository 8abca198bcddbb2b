/* The lists of client connections, and operations on all of them. */
#include "http/acceptor.h"

#include "net/loop.h"

enum { DRAIN_BATCH = 128 }; /* connections told of a drain in one turn: closing takes time */

void acceptor_init(struct acceptor *a)
{
    list_init(&a->arriving);
    list_init(&a->idle);
    list_init(&a->busy);
}

/* Tells the next one on a list, which goes to the list's end: a connection that changes lists of
 * its own accord has seen that the acceptor drains. */
static void acceptor_drain_next(struct list *l)
{
    struct accepted *c = LIST_OWNER(list_first(l), struct accepted, node);

    list_push(l, &c->node);
    c->ops->drain(c);
}

static void acceptor_on_drain(void *owner)
{
    struct acceptor *a = owner;
    struct list *lists[] = { &a->idle, &a->busy };
    int told = 0;

    for (size_t i = 0; i < 2; i++)
        for (; a->drain_left[i] > 0 && told < DRAIN_BATCH; a->drain_left[i]--, told++) {
            if (!list_first(lists[i])) {
                a->drain_left[i] = 0;
                break;
            }
            acceptor_drain_next(lists[i]);
        }
    if (a->drain_left[0] + a->drain_left[1] > 0)
        loop_defer_to_next_turn(&a->drain_work, acceptor_on_drain, a);
}

void acceptor_drain(struct acceptor *a)
{
    a->draining = true;
    a->drain_left[0] = a->idle.count;
    a->drain_left[1] = a->busy.count;
    loop_undefer(&a->drain_work);
    acceptor_on_drain(a);
}

void acceptor_close(struct acceptor *a)
{
    struct list *lists[] = { &a->arriving, &a->idle, &a->busy };

    loop_undefer(&a->drain_work);
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
