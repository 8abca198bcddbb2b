/* A call's response as it is kept for a worker: its fields, its body (memory, then a file), and in
 * the end the head with which it is enclosed. A call that got no response is answered by Tarry
 * itself. In the exchange's arena; answers_release() ends what it holds beyond that. */
#ifndef TARRY_EXCHANGE_ANSWER_H
#define TARRY_EXCHANGE_ANSWER_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "exchange/call.h"
#include "exchange/handoff.h"
#include "exchange/problem.h"
#include "exchange/tap.h"
#include "http/body.h"
#include "llm/reader.h"

/* Why the record is shorter than the response. */
enum answer_cut { ANSWER_WHOLE, ANSWER_CUT_LIMIT, ANSWER_CUT_STORAGE };

/* How an answer came about, for its head. */
struct answer_facts {
    unsigned attempts;
    uint64_t elapsed_ms;
    struct llm_usage usage;
    struct call_times times;
    unsigned retry_after_s; /* of a problem; 0: the problem's own */
};

struct answer_facts answer_facts_of(const struct call *c);

/* Adds them: Tarry-Attempts, Tarry-Time, and what is known of Tarry-Usage and Tarry-Times. */
int answer_add_facts(struct head *h, struct arena *a, const struct answer_facts *facts);

struct answer {
    const struct enclosed *enclosed;
    void *owner;       /* of whoever makes the call */
    struct call *call; /* NULL once it is complete; the owner's to close */
    struct head *head; /* as it came, filtered; NULL before */
    struct str text;   /* the enclosed response's head, when the call is complete */
    struct body body;
    enum answer_cut cut;
};

/* All answers of an exchange, in order. Zeroed: none. */
struct answers {
    struct answer **list;
    unsigned n, room;
};

/* A tap that records what passes. */
struct answer_tap {
    struct tap tap;
    struct answer *answer;
    struct arena *arena;
};

/* One more, in `a`. NULL without memory. */
struct answer *answer_new(
    struct answers *all, struct arena *a, const struct conf *conf, const struct enclosed *e);
void answers_release(struct answers *all);

/* 0, or -1 without memory. */
int answer_take_head(struct answer *an, struct arena *a, const struct head *head);

/* 0, or -1: no more fits, and an->cut says why. */
int answer_take_data(struct answer *an, struct str data);

/* What the record of that length is a problem of: PROBLEM_NONE if it is whole. */
enum problem answer_problem(const struct answer *an);

/* The call is complete, or has failed with `p`: makes the enclosed response's head. 0, or -1
 * without memory. `a` and `exchange`, its id, are the exchange's. */
int answer_finish(struct answer *an, struct arena *a, const char *exchange, enum problem p,
    const struct answer_facts *facts);

/* Fills `t` for it; it outlives the tap. */
void answer_tap_init(struct answer_tap *t, struct answer *an, struct arena *a);

#endif
