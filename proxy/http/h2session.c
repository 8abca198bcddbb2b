/* When a session's turn comes, and when its memory goes. */
#include "http/h2session.h"

void h2_wake(struct h2 *h)
{
    loop_defer(&h->turn, h->on_turn, h);
}

void h2_forget_stream(struct h2 *h)
{
    if (h->dead)
        h2_free_if_over(h);
    else
        h2_wake(h);
}

/* The memory goes with the last stream: their owners may hold them for longer than the connection
 * stands. */
void h2_free_if_over(struct h2 *h)
{
    if (!h->dead || h->freed || list_first(&h->quiet) || list_first(&h->ready))
        return;
    h->freed = true;
    loop_undefer(&h->turn);
    loop_free_later(&h->deferred_free, h, h->free_role);
}
