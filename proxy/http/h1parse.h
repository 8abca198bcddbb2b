/* HTTP/1.1 messages from bytes (RFC 9112), strictly: a message that two parsers could read in two
 * ways is refused. Incremental, without I/O, clock or allocation: the caller keeps the bytes and
 * calls again with more.
 *
 * A function returns how many bytes it has used, 0 for "more", or an enum h1_error. */
#ifndef TARRY_HTTP_H1PARSE_H
#define TARRY_HTTP_H1PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/str.h"
#include "http/head.h"

enum h1_error {
    H1_E_LINE = -1,    /* request or status line is malformed; HTTP/0.9 */
    H1_E_VERSION = -2, /* not HTTP/1.0 or HTTP/1.1 (1.x with x > 1 is read as 1.1) */
    H1_E_METHOD = -3,  /* not a token, or with lower-case letters */
    H1_E_TARGET = -4,  /* no form of RFC 9112 3.2, or an octet that no target has */
    H1_E_TARGET_TOO_LONG = -5,
    H1_E_FIELD = -6,          /* malformed field line: name, colon, control octets, folding */
    H1_E_LINE_END = -7,       /* bare LF or bare CR */
    H1_E_HEAD_TOO_LARGE = -8, /* bytes or fields over the limit */
    H1_E_LENGTH = -9,         /* Content-Length malformed, repeated or beside Transfer-Encoding */
    H1_E_CODING = -10,        /* Transfer-Encoding malformed, repeated, or in an HTTP/1.0 message */
    H1_E_CODING_UNKNOWN = -11, /* a coding other than chunked */
    H1_E_HOST = -12,           /* missing, repeated, malformed, or not that of an absolute target */
    H1_E_CONNECTION = -13,     /* names a field that frames or identifies the message */
    H1_E_CHUNK = -14,          /* malformed chunk size, extension or end */
    H1_E_CHUNK_OVERHEAD = -15, /* extensions or trailers over the limit */
    H1_E_STATUS = -16,         /* not 100 to 599 */
    H1_E_ENDED = -17,          /* the connection ended before the message was complete */
    H1_E_EXPECT = -18,         /* an Expect other than 100-continue */
    H1_E_LIMIT = -19,          /* Content-Length over the limit that the caller gave */
    H1_E_REPEATED = -20, /* Authorization or Content-Type twice: servers take one or the other */
    H1_E_CONNECT = -21,  /* CONNECT: there are no tunnels to elsewhere */
};

/* For logs and problem responses: the error in a few words. */
const char *h1_strerror(int err);

/* The status that a client gets for the error in its request: 400, 413, 414, 417, 431, 501 or 505.
 */
unsigned h1_error_status(int err);

struct h1_limits {
    size_t head_max;    /* bytes, line ends included */
    size_t fields_max;  /* at most H1_FIELDS_MAX */
    size_t target_max;  /* bytes */
    size_t interim_max; /* 1xx responses before the real one */
    /* Bytes of chunk extensions and trailers, which cost work and carry nothing: of one line, and
     * of a body. At most 4 GiB. */
    size_t chunk_line_max, chunk_overhead_max;
    /* A WebSocket that is closed: how long the server may take none of what is still queued. */
    uint64_t finish_ms;
};

enum { H1_FIELDS_MAX = 1024 };

enum h1_kind { H1_REQUEST, H1_RESPONSE, H1_ENCLOSED_REQUEST };

/* How far a head has been looked at, so that a head that comes byte by byte costs each byte one
 * look, and one more when it is complete. Zeroed before each message. */
struct h1_scan {
    size_t pos;     /* bytes looked at */
    size_t line;    /* where the current line begins */
    size_t lines;   /* complete lines so far */
    size_t skipped; /* an empty line before a request line (RFC 9112 2.2): one is passed over */
};

/* Looks for a whole head at the beginning of `in` and parses it. Errors are told as early as they
 * can be seen (a bad line once it is complete; a bare LF, a control octet or a line that is too
 * long in a head that is not complete yet too), and are the same however the bytes are cut.
 * `out->fields` must point to `limits->fields_max` fields in every call (room is set by this
 * function); `out` means something only once a head is complete; its spans borrow from `in`, which
 * may have moved since the last call.
 *
 * H1_REQUEST: the target is split: `out->target` is origin-form (of an absolute-form target what
 * follows the authority, "/" if nothing; RFC 9112 3.2.4: "*" if nothing and the method is OPTIONS)
 * or "*" (OPTIONS only); `out->authority` is an absolute target's authority, otherwise empty until
 * h1_check_request(). Absolute targets are http or https; a query needs a path. CONNECT and
 * authority-form: H1_E_TARGET. Methods have at most 32 octets. H1_ENCLOSED_REQUEST: `out->target`
 * is in absolute-form, as written (any scheme: "tarry" too); no empty line is passed over; the
 * version must be HTTP/1.1. A fragment in the target is an error. */
ssize_t h1_parse_head(struct h1_scan *scan, enum h1_kind kind, const struct h1_limits *limits,
    struct str in, struct head *out);

/* What can be told of a request that h1_parse_head() refuses, for logs only: method and target as
 * they stand, as far as they have come; empty where they are not in the form of any. Spans of `in`.
 */
void h1_glance(struct str in, struct head *out);

enum h1_framing { H1_NO_BODY, H1_LENGTH, H1_CHUNKED, H1_UNTIL_CLOSE };

struct h1_message {
    enum h1_framing framing;
    uint64_t length;       /* of H1_LENGTH (0 is H1_LENGTH too) */
    bool keep_alive;       /* the connection may serve another message after this one */
    bool expects_continue; /* a request with Expect: 100-continue, HTTP/1.1, and a body to come */
    bool upgrade;          /* Connection: upgrade and an Upgrade field */
};

/* What a request's fields say, checked: Host, Content-Length and Transfer-Encoding (any doubt is an
 * error), Connection (may not name Host, Content-Length, Transfer-Encoding, Authorization, Cookie,
 * Expect, Forwarded, X-Forwarded-*, X-Real-IP, Tarry-* in any spelling, and no more than 32 names),
 * Expect, Authorization and Content-Type (once at most). Names that fold to Content-Length or
 * Transfer-Encoding with "_" or "." are errors too (H1_E_LENGTH, H1_E_CODING). HTTP/1.0 needs no
 * Host. Sets `head->authority`, which stays empty only in HTTP/1.0. 0 or an error. */
int h1_check_request(struct head *head, struct h1_message *out);

/* The same for a response to a request of `method` (RFC 9112 6.3: no body to HEAD, in 1xx, 204,
 * 304). A response with both lengths, two lengths, a malformed one, or a Transfer-Encoding other
 * than a single chunked is an error. A 1xx or 204 that announces a body, and 101, are not followed
 * by another message: keep_alive is false. */
int h1_check_response(const struct head *head, struct str method, struct h1_message *out);

/* An enclosed request of a handoff: Content-Length only; a Transfer-Encoding is H1_E_CODING
 * (H1_E_LENGTH beside a Content-Length); without Content-Length no body. Host and Expect are
 * ignored, Connection is checked as in a request. */
int h1_check_enclosed(const struct head *head, struct h1_message *out);

#endif
