/* A reader of event streams (HTML, section 9.2) out of bytes that are split anywhere. It tells the
 * name of an event, its data in pieces, and its end; comments and other fields are passed over. */
#ifndef TARRY_LLM_SSE_H
#define TARRY_LLM_SSE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

enum { SSE_NAME_MAX = 64 };

struct sse_events {
    /* A piece of the event's data; lines are joined by "\n". */
    void (*on_data)(void *owner, struct str piece);
    /* The event is complete; `name` is empty if it has none. */
    void (*on_event)(void *owner, struct str name, bool has_data);
};

struct sse {
    const struct sse_events *events;
    void *owner;
    unsigned char state;
    unsigned char field_len, bom;
    bool after_cr; /* a "\n" that comes now belongs to the line's end before */
    bool has_data; /* the event has a line of data */
    bool has_any;  /* ... or a name */
    unsigned char name_len;
    char field[8];
    char name[SSE_NAME_MAX];
};

void sse_init(struct sse *s, const struct sse_events *events, void *owner);
void sse_feed(struct sse *s, struct str piece);

#endif
