#ifndef TARRY_BENCH_REPLY_H
#define TARRY_BENCH_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads one HTTP/1.1 response from bytes as they come, and looks for a text in its body without
 * keeping the body. Fed by its owner; does no I/O. Ready for the next response after
 * reply_expect(). */

#define REPLY_LINE 1024
#define REPLY_TEXT 512 /* the longest text looked for */
#define REPLY_SAMPLE 400

enum reply_place {
    REPLY_STATUS_LINE,
    REPLY_HEADER,
    REPLY_LENGTH_BODY,
    REPLY_CHUNK_SIZE,
    REPLY_CHUNK,
    REPLY_CHUNK_END,
    REPLY_TRAILER,
    REPLY_OPEN_BODY, /* ends with the connection */
    REPLY_DONE,
};

struct reply {
    enum reply_place at;
    int status;
    bool touched; /* a byte of this response came */
    bool chunked, has_length, closes;
    bool found;    /* the text was in the body, or none was asked for */
    uint64_t left; /* of the body or of the chunk */
    uint64_t body_bytes;
    size_t line_len, text_len, tail_len, sample_len;
    char line[REPLY_LINE];
    char text[REPLY_TEXT];
    char tail[REPLY_TEXT]; /* the body's last bytes, as many as a text across two reads needs */
    char sample[REPLY_SAMPLE];
};

/* Gets ready for a response whose body must hold `text` (may be empty; longer than REPLY_TEXT - 1
 * is cut). `r` need not have been filled before. */
void reply_expect(struct reply *r, const char *text);

/* Takes bytes. How many were used: fewer than `n` only when the response is complete; or -1: not
 * HTTP/1.1. */
long reply_feed(struct reply *r, const char *p, size_t n);

/* The connection ended. True if that was the response's proper end. */
bool reply_eof(struct reply *r);

#endif
