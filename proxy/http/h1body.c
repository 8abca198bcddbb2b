/* Bodies: by length, chunked, or until the connection closes. */
#include "http/h1body.h"

#include <string.h>

#include "http/fields.h"

/*   SIZE -> [EXTENSION ->] SIZE_LF -> DATA -> DATA_CR -> DATA_LF -> SIZE
 *                             |  (the size was 0)
 *                             v
 *         TRAILER_NAME -> TRAILER_VALUE -> TRAILER_LF -> TRAILER_NAME
 *              |  (an empty line)
 *              v
 *           LAST_LF, and the body is complete
 *
 *   Every state can be left at any octet, so a cut may fall anywhere. BROKEN keeps its error in
 *   `left`. */
enum h1body_state {
    SIZE,
    EXTENSION,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    LAST_LF,
    BROKEN,
};

enum {
    SIZE_DIGITS_MAX = 15,
    ENOUGH = 2048, /* such a piece is worth a call of its own */
};

void h1_body_begin(struct h1_body *b, const struct h1_message *m, const struct h1_limits *limits)
{
    *b = (struct h1_body){ .framing = m->framing,
        .line_max = (uint32_t)limits->chunk_line_max,
        .overhead_max = (uint32_t)limits->chunk_overhead_max };
    if (m->framing == H1_LENGTH)
        b->left = m->length;
    b->complete = m->framing == H1_NO_BODY || (m->framing == H1_LENGTH && m->length == 0);
}

static void h1body_enter(struct h1_body *b, enum h1body_state s)
{
    b->state = s;
    b->line = 0;
}

/* `n` more bytes of an extension or a trailer: both cost work and carry nothing (RFC 9112
 * 7.1.1). */
static int h1body_account(struct h1_body *b, size_t n)
{
    if (n > b->line_max - b->line || n > b->overhead_max - b->overhead)
        return H1_E_CHUNK_OVERHEAD;
    b->line += (uint32_t)n;
    b->overhead += (uint32_t)n;
    return 0;
}

static int h1body_hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = str_lower_char(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int h1body_take_size(struct h1_body *b, char c)
{
    int d = h1body_hex_value(c);

    if (d >= 0) {
        if (b->line == SIZE_DIGITS_MAX)
            return H1_E_CHUNK;
        b->left = b->left << 4 | (uint64_t)d;
        b->line++;
        return 0;
    }
    if (b->line == 0)
        return H1_E_CHUNK;
    if (c == ';') {
        h1body_enter(b, EXTENSION);
        return h1body_account(b, 1);
    }
    if (c != '\r')
        return H1_E_CHUNK;
    h1body_enter(b, SIZE_LF);
    return 0;
}

/* The rest of an extension or a trailer's value up to its CR, or as far as it is there. How many
 * bytes it used. */
static ssize_t h1body_take_text(struct h1_body *b, struct str in, enum h1body_state next, int err)
{
    size_t n = field_text_len(in);

    if (h1body_account(b, n) < 0)
        return H1_E_CHUNK_OVERHEAD;
    if (n == in.n)
        return (ssize_t)n;
    if (in.p[n] != '\r')
        return in.p[n] == '\n' ? H1_E_LINE_END : err;
    h1body_enter(b, next);
    return (ssize_t)n + 1;
}

static ssize_t h1body_take_trailer_name(struct h1_body *b, struct str in)
{
    size_t n;

    if (b->line == 0 && in.p[0] == '\r') {
        h1body_enter(b, LAST_LF);
        return 1;
    }
    if (b->line == 0 && in.p[0] == '\n')
        return H1_E_LINE_END;
    n = field_token_len(in);
    if (h1body_account(b, n) < 0)
        return H1_E_CHUNK_OVERHEAD;
    if (n == in.n)
        return (ssize_t)n;
    if (in.p[n] != ':' || b->line == 0)
        return H1_E_FIELD;
    b->state = TRAILER_VALUE; /* the same line, still counted */
    return h1body_account(b, 1) < 0 ? H1_E_CHUNK_OVERHEAD : (ssize_t)n + 1;
}

/* One step from the state at `in`, which is not empty and not in DATA: how many bytes it used, or
 * an error. */
static ssize_t h1body_step(struct h1_body *b, struct str in)
{
    char c = in.p[0];
    int rc;

    switch ((enum h1body_state)b->state) {
    case SIZE:
        rc = h1body_take_size(b, c);
        return rc < 0 ? rc : 1;
    case EXTENSION:
        return h1body_take_text(b, in, SIZE_LF, H1_E_CHUNK);
    case SIZE_LF:
        h1body_enter(b, b->left > 0 ? DATA : TRAILER_NAME);
        return c == '\n' ? 1 : H1_E_LINE_END;
    case DATA_CR:
        h1body_enter(b, DATA_LF);
        return c == '\r' ? 1 : H1_E_CHUNK;
    case DATA_LF:
        h1body_enter(b, SIZE);
        return c == '\n' ? 1 : H1_E_CHUNK;
    case TRAILER_NAME:
        return h1body_take_trailer_name(b, in);
    case TRAILER_VALUE:
        return h1body_take_text(b, in, TRAILER_LF, H1_E_FIELD);
    case TRAILER_LF:
        h1body_enter(b, TRAILER_NAME);
        return c == '\n' ? 1 : H1_E_LINE_END;
    case LAST_LF:
        b->complete = c == '\n';
        return b->complete ? 1 : H1_E_LINE_END;
    case DATA:
    case BROKEN:
        break;
    }
    return H1_E_CHUNK;
}

static ssize_t h1body_take_data(struct h1_body *b, struct str in, struct str *data)
{
    *data = str_make(in.p, in.n < b->left ? in.n : (size_t)b->left);
    b->left -= data->n;
    return (ssize_t)data->n;
}

static ssize_t h1body_next_chunked(struct h1_body *b, struct str in, struct str *data)
{
    size_t used = 0;

    if (b->state == BROKEN)
        return -(ssize_t)b->left;
    while (used < in.n && !b->complete) {
        struct str rest = str_make(in.p + used, in.n - used);
        ssize_t n;

        if (b->state == DATA) {
            n = h1body_take_data(b, rest, data);
            if (b->left == 0)
                h1body_enter(b, DATA_CR);
            return (ssize_t)used + n;
        }
        n = h1body_step(b, rest);
        if (n < 0) {
            h1body_enter(b, BROKEN);
            b->complete = false;
            b->left = (uint64_t)-n;
            return n;
        }
        used += (size_t)n;
    }
    return (ssize_t)used;
}

ssize_t h1_body_next(struct h1_body *b, struct str in, struct str *data)
{
    ssize_t n;

    *data = str_make(in.p, 0);
    if (b->complete)
        return 0;
    switch (b->framing) {
    case H1_NO_BODY:
        return 0;
    case H1_LENGTH:
        n = h1body_take_data(b, in, data);
        b->complete = b->left == 0;
        return n;
    case H1_CHUNKED:
        return h1body_next_chunked(b, in, data);
    case H1_UNTIL_CLOSE:
        *data = in;
        return (ssize_t)in.n;
    }
    return 0;
}

ssize_t h1_body_gather(
    struct h1_body *b, struct str in, char *scratch, size_t room, struct str *data)
{
    ssize_t n = h1_body_next(b, in, data);
    size_t used, filled;

    if (n <= 0 || b->complete || (size_t)n == in.n || data->n >= ENOUGH || data->n >= room)
        return n;
    used = (size_t)n;
    filled = data->n;
    memcpy(scratch, data->p, filled);
    while (used < in.n && filled < room && !b->complete) {
        size_t left = in.n - used < room - filled ? in.n - used : room - filled;

        n = h1_body_next(b, str_make(in.p + used, left), data);
        if (n <= 0)
            break; /* an error comes again */
        memcpy(scratch + filled, data->p, data->n);
        filled += data->n;
        used += (size_t)n;
    }
    *data = str_make(scratch, filled);
    return (ssize_t)used;
}

int h1_body_end(struct h1_body *b)
{
    if (b->framing == H1_UNTIL_CLOSE)
        b->complete = true;
    return b->complete ? 0 : H1_E_ENDED;
}
