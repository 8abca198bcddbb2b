/* One state, one byte at a time; the inside of strings in runs. */
#include "llm/scanner.h"

enum scanner_state {
    IN_VALUE,      /* a value is due */
    IN_FIRST_KEY,  /* a key, or the end of an empty object */
    IN_FIRST_ITEM, /* a value, or the end of an empty array */
    IN_KEY_DUE,    /* a key, after a comma */
    IN_KEY,
    IN_COLON,
    IN_STRING,
    IN_WORD,  /* a number, true, false or null */
    IN_AFTER, /* a comma, or the end of what is open */
    IN_DONE,  /* the outermost value is complete */
    IN_BAD,
};

void scanner_init(struct scanner *j, const struct scanner_path *paths, unsigned npaths, bool unwrap,
    scanner_value_fn *on_value, void *owner)
{
    *j = (struct scanner){ .paths = paths,
        .npaths = npaths < SCANNER_PATHS_MAX ? npaths : SCANNER_PATHS_MAX,
        .unwrap = unwrap,
        .on_value = on_value,
        .owner = owner };
    scanner_reset(j);
}

void scanner_reset(struct scanner *j)
{
    j->alive[0] = j->npaths == SCANNER_PATHS_MAX ? UINT64_MAX : (UINT64_C(1) << j->npaths) - 1;
    j->here = j->alive[0];
    j->at = j->start = j->length = 0;
    j->depth = 0;
    j->objects = 0;
    j->state = IN_VALUE;
    j->text_len = 0;
    j->escaped = false;
    j->done = false;
}

bool scanner_complete(const struct scanner *j)
{
    return j->done;
}

/* How many segments lead to the values at the present depth. */
static unsigned scanner_level(const struct scanner *j)
{
    bool unwrapped = j->unwrap && j->depth > 0 && !(j->objects & 1);

    return j->depth - unwrapped;
}

static bool scanner_in_object(const struct scanner *j)
{
    return j->depth > 0 && (j->objects >> (j->depth - 1)) & 1;
}

/* Of the paths that lead to the open object or array, those that go on with `key` (p NULL: any
 * element). */
static void scanner_match(struct scanner *j, struct str key)
{
    uint64_t alive = j->depth <= SCANNER_DEPTH_MAX ? j->alive[j->depth] : 0;
    unsigned level = scanner_level(j);

    j->here = alive;
    if (level == 0)
        return; /* an element of an outermost array that is unwrapped */
    for (unsigned i = 0; i < j->npaths; i++) {
        const char *segment;

        if (!(alive >> i & 1))
            continue;
        segment = level <= SCANNER_SEGMENTS_MAX ? j->paths[i].segments[level - 1] : NULL;
        if (!segment || (strcmp(segment, "*") != 0 && (!key.p || !str_eq(str_of(segment), key))))
            j->here &= ~(UINT64_C(1) << i);
    }
}

/* Tells of the value that stands in text, for the paths that end with it. */
static void scanner_tell(struct scanner *j, enum scanner_type type, uint64_t end)
{
    struct scanner_value v = { type, str_make(j->text, j->text_len), j->length, j->start, end };
    unsigned level = scanner_level(j);

    for (unsigned i = 0; j->here && i < j->npaths; i++)
        if ((j->here >> i & 1) && level < SCANNER_SEGMENTS_MAX && !j->paths[i].segments[level])
            j->on_value(j->owner, i, &v);
}

bool scanner_is_in_match(const struct scanner *j, uint64_t *start)
{
    unsigned level = scanner_level(j);

    *start = j->start;
    for (unsigned i = 0; j->state == IN_STRING && j->here && i < j->npaths; i++)
        if ((j->here >> i & 1) && level < SCANNER_SEGMENTS_MAX && !j->paths[i].segments[level])
            return true;
    return false;
}

static void scanner_keep(struct scanner *j, const char *p, size_t n)
{
    size_t room = SCANNER_TEXT_MAX - (size_t)j->text_len;

    j->length += n;
    if (n > room)
        n = room;
    memcpy(j->text + j->text_len, p, n);
    j->text_len = (unsigned char)(j->text_len + n);
}

static void scanner_begin_text(struct scanner *j, enum scanner_state to)
{
    j->state = to;
    j->text_len = 0;
    j->length = 0;
    j->escaped = false;
}

static void scanner_after_value(struct scanner *j)
{
    j->state = j->depth == 0 ? IN_DONE : IN_AFTER;
    j->done = j->depth == 0;
}

static void scanner_open(struct scanner *j, bool object)
{
    j->text_len = 0;
    j->length = 0;
    scanner_tell(j, object ? SCANNER_OBJECT : SCANNER_ARRAY, 0);
    if (j->depth >= 63) {
        j->state = IN_BAD; /* nobody nests like that */
        return;
    }
    j->depth++;
    if (j->depth <= SCANNER_DEPTH_MAX)
        j->alive[j->depth] = j->here;
    if (object)
        j->objects |= UINT64_C(1) << (j->depth - 1);
    else
        j->objects &= ~(UINT64_C(1) << (j->depth - 1));
    j->state = object ? IN_FIRST_KEY : IN_FIRST_ITEM;
}

static void scanner_close(struct scanner *j, bool object)
{
    if (j->depth == 0 || scanner_in_object(j) != object) {
        j->state = IN_BAD;
        return;
    }
    j->depth--;
    scanner_after_value(j);
}

static void scanner_begin_value(struct scanner *j, char c)
{
    if (j->depth > 0 && !scanner_in_object(j))
        scanner_match(j, (struct str){ 0 });
    j->start = j->at;
    if (c == '"') {
        scanner_begin_text(j, IN_STRING);
    } else if (c == '{' || c == '[') {
        scanner_open(j, c == '{');
    } else if (c == '-' || (c >= '0' && c <= '9') || c == 't' || c == 'f' || c == 'n') {
        scanner_begin_text(j, IN_WORD);
        j->type = c == 't'   ? SCANNER_TRUE
                  : c == 'f' ? SCANNER_FALSE
                  : c == 'n' ? SCANNER_NULL
                             : SCANNER_NUMBER;
        scanner_keep(j, &c, 1);
    } else {
        j->state = IN_BAD;
    }
}

static bool scanner_is_word_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '+' || c == '-' ||
           c == 'E';
}

/* One byte outside of strings and words. */
static void scanner_take_mark(struct scanner *j, char c)
{
    if (c == ' ' || c == '\n' || c == '\r' || c == '\t')
        return;
    switch ((enum scanner_state)j->state) {
    case IN_FIRST_ITEM:
        if (c == ']') {
            scanner_close(j, false);
            return;
        }
        scanner_begin_value(j, c);
        return;
    case IN_VALUE:
        scanner_begin_value(j, c);
        return;
    case IN_FIRST_KEY:
    case IN_KEY_DUE:
        if (c == '"')
            scanner_begin_text(j, IN_KEY);
        else if (c == '}' && j->state == IN_FIRST_KEY)
            scanner_close(j, true);
        else
            j->state = IN_BAD;
        return;
    case IN_COLON:
        j->state = c == ':' ? IN_VALUE : IN_BAD;
        return;
    case IN_AFTER:
        if (c == ',')
            j->state = scanner_in_object(j) ? IN_KEY_DUE : IN_VALUE;
        else if (c == '}' || c == ']')
            scanner_close(j, c == '}');
        else
            j->state = IN_BAD;
        return;
    case IN_DONE:
    case IN_KEY:
    case IN_STRING:
    case IN_WORD:
    case IN_BAD:
        break;
    }
    j->state = IN_BAD;
}

/* A run of bytes within a string or key; returns how many were used. */
static size_t scanner_take_string(struct scanner *j, struct str s)
{
    size_t n = 0;

    while (n < s.n) {
        char c = s.p[n];

        if (j->escaped) {
            j->escaped = false;
        } else if (c == '\\') {
            j->escaped = true;
        } else if (c == '"') {
            scanner_keep(j, s.p, n);
            if (j->state == IN_KEY) {
                /* A key that did not fit is longer than every segment. */
                scanner_match(
                    j, j->length <= SCANNER_TEXT_MAX ? str_make(j->text, j->text_len) : STR(""));
                j->state = IN_COLON;
            } else {
                scanner_tell(j, SCANNER_STRING, j->at + n + 1);
                scanner_after_value(j);
            }
            return n + 1;
        }
        n++;
    }
    scanner_keep(j, s.p, n);
    return n;
}

static size_t scanner_take_word(struct scanner *j, struct str s)
{
    size_t n = 0;

    while (n < s.n && scanner_is_word_byte(s.p[n]))
        n++;
    scanner_keep(j, s.p, n);
    if (n < s.n) {
        scanner_tell(j, (enum scanner_type)j->type, j->at + n);
        scanner_after_value(j);
    }
    return n;
}

bool scanner_feed(struct scanner *j, struct str piece)
{
    while (piece.n > 0 && j->state != IN_BAD) {
        size_t n = 1;

        if (j->state == IN_STRING || j->state == IN_KEY)
            n = scanner_take_string(j, piece);
        else if (j->state == IN_WORD)
            n = scanner_take_word(j, piece);
        else
            scanner_take_mark(j, piece.p[0]);
        j->at += n;
        piece = str_make(piece.p + n, piece.n - n);
    }
    return j->state != IN_BAD;
}
