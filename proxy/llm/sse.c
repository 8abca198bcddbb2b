/* Line by line: the field's name, one space behind the colon, its value. */
#include "llm/sse.h"

enum sse_state {
    IN_START, /* of the stream: a byte order mark may come */
    IN_LINE,  /* at the start of a line */
    IN_FIELD,
    IN_SPACE, /* behind the colon */
    IN_DATA,
    IN_NAME,
    IN_OTHER, /* a comment, or a field that says nothing to us */
};

void sse_init(struct sse *s, const struct sse_events *events, void *owner)
{
    *s = (struct sse){ .events = events, .owner = owner, .state = IN_START };
}

static void sse_end_event(struct sse *s)
{
    bool any = s->has_any, data = s->has_data;
    struct str name = str_make(s->name, s->name_len);

    s->has_any = s->has_data = false;
    s->name_len = 0;
    if (any)
        s->events->on_event(s->owner, name, data);
}

static bool sse_field_is(const struct sse *s, const char *name)
{
    return str_eq(str_make(s->field, s->field_len), str_of(name));
}

/* The field's name is complete: what follows is its value. */
static void sse_begin_value(struct sse *s)
{
    s->has_any = s->has_any || sse_field_is(s, "data") || sse_field_is(s, "event");
    if (sse_field_is(s, "data")) {
        if (s->has_data)
            s->events->on_data(s->owner, STR("\n"));
        s->has_data = true;
    } else if (sse_field_is(s, "event")) {
        s->name_len = 0;
    }
}

static void sse_end_line(struct sse *s)
{
    if (s->state == IN_LINE || s->state == IN_START)
        sse_end_event(s);
    else if (s->state == IN_FIELD)
        sse_begin_value(s); /* a field without a colon has an empty value */
    s->state = IN_LINE;
    s->field_len = 0;
}

static enum sse_state sse_value_state(const struct sse *s)
{
    return sse_field_is(s, "data") ? IN_DATA : sse_field_is(s, "event") ? IN_NAME : IN_OTHER;
}

static void sse_take_field_byte(struct sse *s, char c)
{
    if (c == ':' && s->field_len == 0) {
        s->state = IN_OTHER;
    } else if (c == ':') {
        sse_begin_value(s);
        s->state = IN_SPACE;
    } else if (s->field_len < sizeof(s->field)) {
        s->field[s->field_len++] = c;
        s->state = IN_FIELD;
    } else {
        s->state = IN_OTHER;
    }
}

/* The bytes of a value up to the line's end. */
static void sse_take_value(struct sse *s, struct str v)
{
    size_t room = SSE_NAME_MAX - (size_t)s->name_len;

    if (s->state == IN_DATA && v.n > 0)
        s->events->on_data(s->owner, v);
    if (s->state != IN_NAME)
        return;
    if (v.n > room)
        v.n = room;
    memcpy(s->name + s->name_len, v.p, v.n);
    s->name_len = (unsigned char)(s->name_len + v.n);
}

/* Whether the byte belongs to a byte order mark at the very start. */
static bool sse_takes_mark(struct sse *s, char c)
{
    static const char mark[3] = { '\xef', '\xbb', '\xbf' };

    if (s->state != IN_START)
        return false;
    if (s->bom < 3 && c == mark[s->bom]) {
        s->bom++;
        return true;
    }
    s->state = IN_LINE;
    return false;
}

static size_t sse_line_length(struct str piece)
{
    size_t n = 0;

    while (n < piece.n && piece.p[n] != '\n' && piece.p[n] != '\r')
        n++;
    return n;
}

void sse_feed(struct sse *s, struct str piece)
{
    while (piece.n > 0) {
        char c = piece.p[0];
        size_t n = 1;

        if (c == '\n' && s->after_cr) {
            s->after_cr = false;
        } else if (c == '\n' || c == '\r') {
            s->after_cr = c == '\r';
            sse_end_line(s);
        } else if (!sse_takes_mark(s, c)) {
            s->after_cr = false;
            if (s->state == IN_LINE || s->state == IN_FIELD) {
                sse_take_field_byte(s, c);
            } else if (s->state == IN_SPACE && c == ' ') {
                s->state = sse_value_state(s);
            } else {
                if (s->state == IN_SPACE)
                    s->state = sse_value_state(s);
                n = sse_line_length(piece);
                sse_take_value(s, str_make(piece.p, n));
            }
        }
        piece = str_make(piece.p + n, piece.n - n);
    }
}
