/* Intrusive, counted, doubly linked lists. A node knows its list, so the count of another list is
 * never decremented. A zeroed node is on no list; a list must be initialised. Owns nothing. */
#ifndef TARRY_BASE_LIST_H
#define TARRY_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list;

struct list_node {
    struct list_node *prev, *next;
    struct list *on;
};

struct list {
    struct list_node head;
    size_t count;
};

/* The struct that embeds `node` as `member`. */
#define LIST_OWNER(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

/* `var` runs over the nodes; the body may remove `var`'s node but no other. */
#define LIST_EACH(var, list)                                                                       \
    for (struct list_node *var = (list)->head.next, *var##_next = var->next; var != &(list)->head; \
         var = var##_next, var##_next = var->next)

static inline void list_init(struct list *l)
{
    l->head.prev = l->head.next = &l->head;
    l->head.on = l;
    l->count = 0;
}

static inline bool list_on(const struct list_node *n)
{
    return n->on != NULL;
}

static inline void list_remove(struct list_node *n)
{
    if (!n->on)
        return;
    n->prev->next = n->next;
    n->next->prev = n->prev;
    n->on->count--;
    n->prev = n->next = NULL;
    n->on = NULL;
}

static inline void list_insert_before(struct list_node *at, struct list_node *n)
{
    n->on = at->on;
    n->prev = at->prev;
    n->next = at;
    at->prev->next = n; /* NOLINT(clang-analyzer-core.NullDereference): a list is a ring */
    at->prev = n;
    n->on->count++;
}

/* Moves `n` to the end of `l`, from any list that it was on. */
static inline void list_push(struct list *l, struct list_node *n)
{
    list_remove(n);
    list_insert_before(&l->head, n);
}

/* Moves `n` to the front of `l`, from any list that it was on. */
static inline void list_push_front(struct list *l, struct list_node *n)
{
    list_remove(n);
    list_insert_before(l->head.next, n);
}

static inline struct list_node *list_first(const struct list *l)
{
    return l->head.next == &l->head ? NULL : l->head.next;
}

static inline struct list_node *list_last(const struct list *l)
{
    return l->head.prev == &l->head ? NULL : l->head.prev;
}

static inline struct list_node *list_next(const struct list_node *n)
{
    return n->next == &n->on->head ? NULL : n->next;
}

/* Removes and returns the first node; NULL if there is none. */
static inline struct list_node *list_take_first(struct list *l)
{
    struct list_node *n = list_first(l);

    if (n)
        list_remove(n);
    return n;
}

#endif
