/* The inner chunked coding, as strict as the outer one: what could be read in two ways is refused.
 */
#include "exchange/parts.h"

#include <string.h>

#include "base/num.h"
#include "http/h1parse.h"

enum { PARTS_LINE_MAX = 256, PARTS_FIELDS_MAX = 64 };

#define STATUS_LINE "HTTP/1.1 200 OK\r\n"

void parts_init(struct parts *p, size_t trailer_max)
{
    *p = (struct parts){ .trailer_max = trailer_max };
}

static struct str parts_take(struct str *in, size_t n)
{
    struct str s = str_make(in->p, n);

    *in = str_make(in->p + n, in->n - n);
    return s;
}

/* A chunk's first line, without its end: hex digits, perhaps an extension. */
static int parts_read_size(struct parts *p, struct str line)
{
    uint64_t n = 0;
    size_t i;

    for (i = 0; i < line.n; i++) {
        char c = str_lower_char(line.p[i]);
        unsigned digit;

        if (c >= '0' && c <= '9')
            digit = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (unsigned)(c - 'a') + 10;
        else
            break;
        if (n >> 56)
            return PARTS_E_MALFORMED;
        n = n << 4 | digit;
    }
    if (i == 0 || (i < line.n && line.p[i] != ';'))
        return PARTS_E_MALFORMED;
    p->left = n;
    p->state = n > 0 ? PARTS_IN_DATA : PARTS_IN_TRAILER;
    return 0;
}

/* Takes octets until p->line ends with `end`, which stays there. 1: it does; 0: more is needed. */
static int parts_gather(struct parts *p, struct str *in, struct str end, size_t max)
{
    while (in->n > 0) {
        const char *last = memchr(in->p, '\n', in->n);
        struct str part = parts_take(in, last ? (size_t)(last - in->p) + 1 : in->n);
        struct str line;

        if (buf_len(&p->line) + part.n > max)
            return PARTS_E_TOO_LARGE;
        if (buf_append(&p->line, part.p, part.n) < 0)
            return PARTS_E_MEMORY;
        line = buf_str(&p->line);
        if (last && (line.n < 2 || line.p[line.n - 2] != '\r'))
            return PARTS_E_MALFORMED;
        if (line.n >= end.n && memcmp(line.p + line.n - end.n, end.p, end.n) == 0)
            return 1;
    }
    return 0;
}

static int parts_size_line(struct parts *p, struct str *in)
{
    int rc = parts_gather(p, in, STR("\r\n"), PARTS_LINE_MAX);
    struct str line;

    if (rc == PARTS_E_TOO_LARGE)
        return PARTS_E_MALFORMED;
    if (rc <= 0)
        return rc;
    line = buf_str(&p->line);
    rc = parts_read_size(p, str_make(line.p, line.n - 2));
    buf_release(&p->line);
    /* The trailer section is read as the fields of a head: the same parser, the same rules. */
    if (rc == 0 && p->state == PARTS_IN_TRAILER)
        rc = buf_append(&p->line, STATUS_LINE, sizeof(STATUS_LINE) - 1) < 0 ? PARTS_E_MEMORY : 0;
    return rc < 0 ? rc : 1;
}

/* How many bytes of enclosed requests follow. */
static int parts_read_length(struct parts *p)
{
    size_t n = head_count(&p->trailer, STR("tarry-length"));

    p->left = 0;
    if (n > 1 || (n == 1 && !num_parse_u64(head_value(&p->trailer, STR("tarry-length")), &p->left)))
        return PARTS_E_MALFORMED;
    return 0;
}

static int parts_trailer(struct parts *p, struct str *in)
{
    struct h1_limits limits = { .head_max = p->trailer_max + sizeof(STATUS_LINE),
        .fields_max = PARTS_FIELDS_MAX,
        .target_max = 1,
        .interim_max = 1 };
    struct field fields[PARTS_FIELDS_MAX];
    struct head head = { .fields = fields };
    struct h1_scan scan = { 0 };
    int rc = parts_gather(p, in, STR("\r\n\r\n"), limits.head_max);
    struct str text = buf_str(&p->line);

    if (rc <= 0)
        return rc;
    if (h1_parse_head(&scan, H1_RESPONSE, &limits, text, &head) != (ssize_t)text.n)
        return PARTS_E_MALFORMED;
    if (head_copy(&p->arena, &p->trailer, &head, 0) < 0)
        return PARTS_E_MEMORY;
    buf_release(&p->line);
    rc = parts_read_length(p);
    p->state = PARTS_IN_CONTENT;
    return rc < 0 ? rc : PARTS_TRAILER;
}

static int parts_crlf(struct parts *p, struct str *in)
{
    int rc = parts_gather(p, in, STR("\r\n"), 2);

    if (rc == PARTS_E_TOO_LARGE)
        return PARTS_E_MALFORMED;
    if (rc > 0) {
        buf_release(&p->line);
        p->state = PARTS_IN_SIZE;
    }
    return rc;
}

static struct str parts_span(struct parts *p, struct str *in)
{
    size_t n = p->left < in->n ? (size_t)p->left : in->n;

    p->left -= n;
    return parts_take(in, n);
}

int parts_next(struct parts *p, struct str *in, struct str *data)
{
    int rc = 1;

    while (rc > 0) {
        switch (p->state) {
        case PARTS_IN_SIZE:
            rc = parts_size_line(p, in);
            break;
        case PARTS_IN_DATA:
            if (in->n == 0)
                return PARTS_NEED_MORE;
            *data = parts_span(p, in);
            if (p->left == 0)
                p->state = PARTS_BEHIND_DATA;
            return PARTS_DATA;
        case PARTS_BEHIND_DATA:
            rc = parts_crlf(p, in);
            break;
        case PARTS_IN_TRAILER:
            return parts_trailer(p, in);
        case PARTS_IN_CONTENT:
            if (p->left == 0) {
                p->state = PARTS_AT_END;
                return PARTS_END;
            }
            if (in->n == 0)
                return PARTS_NEED_MORE;
            *data = parts_span(p, in);
            return PARTS_CONTENT;
        case PARTS_AT_END:
            return PARTS_NEED_MORE;
        }
    }
    return rc;
}

void parts_release(struct parts *p)
{
    buf_release(&p->line);
    arena_release(&p->arena);
    p->trailer = (struct head){ 0 };
}
