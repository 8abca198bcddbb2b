/* HTTP/2 frames from fuzz input: what comes out is mostly well-formed, so that the fuzzer gets past
 * the framing layer, and broken wherever the input says so.
 *
 * The input is a row of steps. A step is an octet that says what, and its arguments:
 *   0x00-0x0f   a frame of that type: flags, stream, length, payload
 *   0x10        HEADERS with a block made of the table's fields: flags, stream, count, indexes
 *   0x11        DATA of 256 times the next octet: flags, stream, size
 *   0x12        PRIORITY_UPDATE: stream, length, payload
 *   0x13        bytes as they are: length, bytes
 *   0x14        what has been written so far is read by the other side now
 *   0xf0-0xff   an action of the target's own: argument
 * Anything else is passed over. A stream is one octet: 0 to 63 are themselves, the rest 2^31 - it.
 */
#ifndef TARRY_TESTS_H2FRAMES_H
#define TARRY_TESTS_H2FRAMES_H

#include <stddef.h>
#include <stdint.h>

#include "net/conn.h"

/* `what`: 0 to 15. */
typedef void h2frames_action_fn(void *owner, unsigned what, unsigned argument);

/* Both ends of a new connection: the conn, and the descriptor of the end that is played. */
struct conn *h2frames_connect(int *fd);

/* Writes `hello`, then plays the steps on `fd`, turning the loop as they say and until all has
 * arrived; the frames that come back must be well-formed. Closes `fd` and turns the loop again. */
void h2frames_play(int fd, const char *hello, size_t hello_len, const uint8_t *data, size_t n,
    h2frames_action_fn *action, void *owner);

#endif
