/* Answers that come in chunks: each call makes the next piece, so that a stream that waits holds
 * nothing. */
#ifndef PROVIDER_STREAM_H
#define PROVIDER_STREAM_H

#include "head.h"
#include "plan.h"

enum stream_part { STREAM_OPENING, STREAM_TOKENS, STREAM_CLOSING, STREAM_ENDED };

/* Zeroed, it stands at the beginning. */
struct stream {
    enum stream_part part;
    unsigned token;    /* how many have been made */
    unsigned sequence; /* OpenAI's responses number their events */
    bool filtered;     /* the content filter ends it */
    bool unfinished;   /* its terminal event is left out */
};

void stream_head(const struct plan *plan, struct head *h);
/* Adds the next piece: the opening events, one token, or the closing ones; part STREAM_ENDED says
 * that it was the last. */
void stream_next(const struct plan *plan, struct stream *s, struct text *to);
/* Comes between pieces on demand: what the service sends to keep the connection alive. */
void stream_ping(const struct plan *plan, struct text *to);

#endif
