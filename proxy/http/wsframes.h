/* The ends of a WebSocket's frames (RFC 6455 5.2) in one direction. Tarry passes the bytes on
 * unchanged; it follows the frames to know where a Close frame of its own may stand. */
#ifndef TARRY_HTTP_WSFRAMES_H
#define TARRY_HTTP_WSFRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/str.h"

enum {
    WSFRAMES_HEAD_MAX = 14,     /* two bytes, eight of length, four of mask */
    WSFRAMES_CLOSE_MAX = 8,     /* of a Close frame with a status and a mask */
    WSFRAMES_GOING_AWAY = 1001, /* RFC 6455 7.4.1 */
};

/* Zeroed at first. */
struct wsframes {
    uint64_t left; /* bytes of the present frame's payload that have not come */
    unsigned char head[WSFRAMES_HEAD_MAX];
    unsigned char have; /* bytes of the present frame's head */
    bool closed;        /* a Close frame has passed: nothing may follow it */
};

/* Takes the next bytes. The number of them after which a frame is complete, as many as possible;
 * -1: a frame is under way all the time. */
ssize_t wsframes_feed(struct wsframes *f, struct str data);

/* Whether a frame may begin now. */
bool wsframes_may_begin(const struct wsframes *f);

/* Writes a Close frame with this status; a client's is masked. Its length. */
size_t wsframes_close(unsigned char out[WSFRAMES_CLOSE_MAX], unsigned status, bool masked);

#endif
