/* For tests of what sends on a stream: one that only notes what it is told, and that the test makes
 * tell what it wants. Use after close, or two heads, fail the test. */
#ifndef TARRY_TESTS_FAKESTREAM_H
#define TARRY_TESTS_FAKESTREAM_H

#include "base/buf.h"
#include "http/stream.h"

struct fake_stream {
    struct stream stream;
    struct addr peer;
    struct buf head; /* the response's head, as it would be written */
    struct buf body;
    unsigned status; /* 0: no head yet */
    size_t room;     /* what sending takes before it says STREAM_FULL */
    int error;       /* not 0: what sending says */
    bool ended, closed, paused, continued;
    bool reset; /* closed by stream_reset(), or before the end: the other side sees that it is not
                   whole */
};

/* As if from 127.0.0.1, with room for everything. */
void fake_stream_init(struct fake_stream *f);
void fake_stream_release(struct fake_stream *f);

bool fake_stream_head_has(const struct fake_stream *f, const char *text);
bool fake_stream_body_has(const struct fake_stream *f, const char *text);

/* Tells the stream's owner; not after the close. */
void fake_stream_emit(struct fake_stream *f, struct message m);
void fake_stream_data(struct fake_stream *f, const char *text);

/* Takes more again: on_drained. */
void fake_stream_drain(struct fake_stream *f, size_t room);

/* The client has sent FIN: on_half_closed. */
void fake_stream_half_close(struct fake_stream *f);

#endif
