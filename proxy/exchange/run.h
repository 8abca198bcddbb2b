/* A view that stands still between visits: what its exchange keeps of it. Made when a worker
 * answers in parts, or asks for an answer in pieces; in the exchange's arena. run_release() ends
 * what it holds beyond that. */
#ifndef TARRY_EXCHANGE_RUN_H
#define TARRY_EXCHANGE_RUN_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "exchange/answer.h"
#include "exchange/batch.h"
#include "exchange/handoff.h"
#include "exchange/parts.h"
#include "http/body.h"

/* What is to follow, as the trailer of a response in parts says. */
enum run_then { RUN_MORE, RUN_REST, RUN_REPLAY, RUN_ENDS, RUN_CUTS };

struct run {
    struct parts parts; /* of the visit in hand */
    struct head *head;  /* of the client's response, until its first byte; NULL: sent */
    enum run_then then; /* of the trailer that came last */
    EVP_MD_CTX *sha;    /* of the data taken for the client; NULL: none yet */
    uint64_t sent;      /* its bytes, also from responses that broke off */
    char tail[4];       /* its last bytes */

    /* The answer that is given in pieces: open until the worker has had its end. */
    struct answer *open;       /* NULL: none */
    struct handoff *handoff;   /* that its call's request lies in, if that is not the last one */
    struct str outcome;        /* p NULL: more may come */
    enum problem problem;      /* why it broke off */
    struct answer_facts facts; /* of its call, as it is or was last */
    uint64_t given;            /* bytes that a worker has been visited with */
    bool last_given;           /* so was its end */
    struct batch_member member;
};

/* Data for the client passes. 0, or -1 without memory. */
int run_count(struct run *r, struct str data);

/* "bytes=N, sha256=BASE64" of all of it, in `a`; p NULL without memory. */
struct str run_sent_text(const struct run *r, struct arena *a);

/* Whether what the client got last ended with an empty line, so that a comment line of an event
 * stream may follow. */
bool run_at_empty_line(const struct run *r);

/* An answer becomes the open one. */
void run_open(struct run *r, struct answer *an);

/* Bytes of the open answer that no visit has brought yet. */
uint64_t run_news(const struct run *r);

/* The open answer has ended, for `p` or whole: its call is closed. */
void run_end_open(struct run *r, struct str outcome, enum problem p);

/* The fields that say which part of the open answer this is, from `from` on. Notes in `last`
 * whether it is the last one. 0, or -1. */
int run_add_piece(struct run *r, struct arena *a, uint64_t from, struct head *h);

/* The whole answer as it stands, as an enclosed response's head, in `a`; p NULL without memory. */
struct str run_open_text(struct run *r, struct arena *a);

/* The worker has had its end, or wants no more of it: it is an answer like others now, its text in
 * `a`. 0, or -1 without memory. */
int run_finish_open(struct run *r, struct arena *a);

void run_release(struct run *r);

#endif
