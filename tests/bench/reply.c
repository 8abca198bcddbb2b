/* The client's side of HTTP/1.1, as far as a load driver needs it. */
#include "reply.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

void reply_expect(struct reply *r, const char *text)
{
    size_t n = strnlen(text, REPLY_TEXT - 1);

    r->at = REPLY_STATUS_LINE;
    r->status = 0;
    r->touched = r->chunked = r->has_length = r->closes = false;
    r->left = r->body_bytes = 0;
    r->line_len = r->tail_len = r->sample_len = 0;
    memcpy(r->text, text, n);
    r->text[n] = '\0';
    r->text_len = n;
    r->found = n == 0;
}

/* Looks for the text in what came before and `p` together. */
static void look(struct reply *r, const char *p, size_t n)
{
    char joint[2 * REPLY_TEXT];
    size_t keep = r->text_len - 1, head = n < keep ? n : keep;

    memcpy(joint, r->tail, r->tail_len);
    memcpy(joint + r->tail_len, p, head);
    if (memmem(joint, r->tail_len + head, r->text, r->text_len) != NULL ||
        memmem(p, n, r->text, r->text_len) != NULL) {
        r->found = true;
        return;
    }
    if (n >= keep) {
        memcpy(r->tail, p + n - keep, keep);
        r->tail_len = keep;
        return;
    }
    /* The joint holds all of `p`: its end is the new tail. */
    n += r->tail_len;
    r->tail_len = n < keep ? n : keep;
    memcpy(r->tail, joint + n - r->tail_len, r->tail_len);
}

static void take_body(struct reply *r, const char *p, size_t n)
{
    size_t room = REPLY_SAMPLE - r->sample_len;

    r->body_bytes += n;
    if (r->status != 200 && room > 0) {
        room = n < room ? n : room;
        memcpy(r->sample + r->sample_len, p, room);
        r->sample_len += room;
    }
    if (!r->found)
        look(r, p, n);
}

static void end_head(struct reply *r)
{
    if (r->status >= 100 && r->status < 200) {
        r->at = REPLY_STATUS_LINE;
        return;
    }
    if (r->status == 204 || r->status == 304) {
        r->at = REPLY_DONE;
    } else if (r->chunked) {
        r->at = REPLY_CHUNK_SIZE;
    } else if (r->has_length) {
        r->at = r->left > 0 ? REPLY_LENGTH_BODY : REPLY_DONE;
    } else {
        r->at = REPLY_OPEN_BODY;
        r->closes = true;
    }
}

/* The value of the field `name` if the line is that field, otherwise NULL. */
static const char *field(const char *line, const char *name)
{
    size_t n = strlen(name);

    if (strncasecmp(line, name, n) != 0 || line[n] != ':')
        return NULL;
    return line + n + 1 + strspn(line + n + 1, " \t");
}

static int take_header(struct reply *r)
{
    const char *v;
    char *end;

    if (r->line_len == 0) {
        end_head(r);
        return 0;
    }
    if ((v = field(r->line, "content-length")) != NULL) {
        r->left = strtoull(v, &end, 10);
        if (end == v || *end != '\0')
            return -1;
        r->has_length = true;
    } else if ((v = field(r->line, "transfer-encoding")) != NULL) {
        if (strcasecmp(v, "chunked") != 0)
            return -1;
        r->chunked = true;
    } else if ((v = field(r->line, "connection")) != NULL) {
        r->closes = strcasestr(v, "close") != NULL;
    }
    return strchr(r->line, ':') != NULL ? 0 : -1;
}

static int take_line(struct reply *r)
{
    char *end;

    switch (r->at) {
    case REPLY_STATUS_LINE:
        if (strncmp(r->line, "HTTP/1.", 7) != 0 || r->line_len < 12 || r->line[8] != ' ')
            return -1;
        r->status = (int)strtol(r->line + 9, NULL, 10);
        if (r->line[7] == '0')
            r->closes = true;
        r->at = REPLY_HEADER;
        return r->status >= 100 && r->status < 600 ? 0 : -1;
    case REPLY_HEADER:
        return take_header(r);
    case REPLY_CHUNK_SIZE:
        r->left = strtoull(r->line, &end, 16);
        if (end == r->line || (*end != '\0' && *end != ';'))
            return -1;
        r->at = r->left > 0 ? REPLY_CHUNK : REPLY_TRAILER;
        return 0;
    case REPLY_CHUNK_END:
        r->at = REPLY_CHUNK_SIZE;
        return r->line_len == 0 ? 0 : -1;
    case REPLY_TRAILER:
        if (r->line_len == 0)
            r->at = REPLY_DONE;
        return 0;
    case REPLY_LENGTH_BODY:
    case REPLY_CHUNK:
    case REPLY_OPEN_BODY:
    case REPLY_DONE:
        break;
    }
    return -1;
}

/* Takes up to the line's end. A line longer than the room for it is kept cut: none that matters is
 * that long. */
static long feed_line(struct reply *r, const char *p, size_t n)
{
    const char *nl = memchr(p, '\n', n);
    size_t used = nl != NULL ? (size_t)(nl - p) + 1 : n;
    size_t take = nl != NULL ? used - 1 : used;
    size_t room = REPLY_LINE - 1 - r->line_len;

    take = take < room ? take : room;
    memcpy(r->line + r->line_len, p, take);
    r->line_len += take;
    if (nl == NULL)
        return (long)used;
    if (r->line_len > 0 && r->line[r->line_len - 1] == '\r')
        r->line_len--;
    r->line[r->line_len] = '\0';
    if (take_line(r) == -1)
        return -1;
    r->line_len = 0;
    return (long)used;
}

static long feed_body(struct reply *r, const char *p, size_t n)
{
    if (r->at == REPLY_OPEN_BODY) {
        take_body(r, p, n);
        return (long)n;
    }
    n = n < r->left ? n : (size_t)r->left;
    take_body(r, p, n);
    r->left -= n;
    if (r->left == 0)
        r->at = r->at == REPLY_CHUNK ? REPLY_CHUNK_END : REPLY_DONE;
    return (long)n;
}

long reply_feed(struct reply *r, const char *p, size_t n)
{
    size_t used = 0;
    long step;

    if (n > 0)
        r->touched = true;
    while (used < n && r->at != REPLY_DONE) {
        if (r->at == REPLY_LENGTH_BODY || r->at == REPLY_CHUNK || r->at == REPLY_OPEN_BODY)
            step = feed_body(r, p + used, n - used);
        else
            step = feed_line(r, p + used, n - used);
        if (step == -1)
            return -1;
        used += (size_t)step;
    }
    return (long)used;
}

bool reply_eof(struct reply *r)
{
    if (r->at == REPLY_OPEN_BODY)
        r->at = REPLY_DONE;
    return r->at == REPLY_DONE;
}
