/* One request from its head to the end of its answer. It decides what is sent and when; the
 * connection (h1, h2) that made it owns it, frames what it says, and ends it with job_close().
 *
 *   JOB_READING -> JOB_WAITING -> JOB_SENDING -> JOB_DONE      to JOB_DONE from everywhere: the
 * peer has gone |              v
 *                       +--------> JOB_STUCK                   a fault: nothing more is said until
 * the peer gives up
 *
 * A waiting job holds its plan and a timer, and the head of the request if that is recorded:
 * nothing else. Its answer is made when its time has come. All that it does to its connection it
 * does from its timer, never from within a call of the connection's: so a connection may be closed
 * by any function of `struct job_wire`. */
#ifndef PROVIDER_JOB_H
#define PROVIDER_JOB_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ask.h"
#include "head.h"
#include "list.h"
#include "plan.h"
#include "stream.h"

struct job;
struct provider;

/* How a fault ends it. */
enum job_cut {
    JOB_CUT_RESET,       /* the connection, hard: TCP RST */
    JOB_CUT_CLOSE,       /* the connection, once what was said is out */
    JOB_CUT_GARBAGE,     /* bytes that are no HTTP, then close */
    JOB_CUT_GOAWAY,      /* HTTP/2: GOAWAY that says this stream was never seen */
    JOB_CUT_GOAWAY_LOST, /* HTTP/2: GOAWAY that says it was, and then close */
    JOB_CUT_STREAM,      /* HTTP/2: RST_STREAM with a code */
    JOB_CUT_SILENT       /* the connection lives, but neither answers nor acknowledges any more */
};

/* What a job asks of its connection. */
struct job_wire {
    void (*interim)(struct job *job, const struct head *h);
    void (*head)(struct job *job, const struct head *h, bool bodyless);
    /* job_pull has something again. */
    void (*more)(struct job *job);
    /* The job may be closed when this returns. */
    void (*cut)(struct job *job, enum job_cut how, uint32_t code);
    /* The connection takes no further request. */
    void (*drain)(struct job *job);
    /* Receive windows of that size from now on; NULL where there are none. */
    void (*narrow)(struct job *job, uint32_t window);
    /* One byte each `ms` until the answer is out; NULL: job_pull gives single bytes. */
    void (*drip)(struct job *job, uint64_t ms);
};

enum job_state { JOB_READING, JOB_WAITING, JOB_SENDING, JOB_STUCK, JOB_DONE };

/* The connection reads the fields up to `http10`. */
struct job {
    struct list link; /* among its connection's */
    struct provider *provider;
    const struct job_wire *wire;
    void *owner;
    struct ask *ask; /* NULL when it is no longer needed */
    uint64_t connection;
    int32_t stream; /* 0 in HTTP/1 */
    bool tls;
    bool http10; /* the answer is to end with the connection */

    enum job_state state;
    bool counted;   /* in the tally's in_flight */
    bool planned;   /* `plan` holds something */
    bool held;      /* nothing to pull until the timer says so */
    bool finished;  /* what is in `out` and `filler` is all */
    bool byte_wise; /* drip */
    bool cut_next;  /* the timer cuts */
    int status;
    struct plan plan;
    struct stream events;
    ev_timer timer;

    struct text out; /* the piece that is being pulled, from `out_at` on */
    size_t out_at;
    uint64_t filler; /* bytes of a huge body that follow `out` */
    uint64_t pulled;
    const struct fault *mid; /* what happens in the middle; NULL: nothing, or it has happened */
    uint64_t mid_at;         /* after so many tokens of a stream, or bytes */
    uint64_t pings;          /* still to come before the content */
    struct job_gzip *gzip;
    struct text trailers;
};

struct job *job_new(struct provider *provider, const struct job_wire *wire, void *owner,
    const char *protocol, uint64_t connection, int32_t stream, bool tls);

/* The request's head is complete in `job->ask`. */
void job_asked(struct job *job);
/* So is the body. */
void job_asked_all(struct job *job);

/* Takes up to `room` bytes of the body. 0 with `*end` false: nothing now, wire->more will tell.
 * `*end`: these are the last, and the request has been recorded. */
size_t job_pull(struct job *job, void *to, size_t room, bool *end);

/* Ends and frees it. If it has not been recorded it is now, with `end` and `why` as in record.h. */
void job_close(struct job *job, const char *end, const char *why);

#endif
