/* Words of the conf file.
 *
 *     value:      "text" with \escapes and ${VARIABLES}, 'text as it is', or a bare word
 *     comments:   # and // to the end of the line, slash-star to star-slash
 */
#include "conf/token.h"

#include <stdlib.h>

#include "base/buf.h"
#include "conf/file.h"

static int token_look(const struct token_reader *r, size_t ahead)
{
    return r->pos + ahead < r->in.n ? (unsigned char)r->in.p[r->pos + ahead] : -1;
}

static struct place token_here(struct token_reader *r)
{
    return (struct place){ r->file, r->line, r->context->seq++ };
}

/* Passes over a slash-star comment. */
static void token_skip_comment(struct token_reader *r)
{
    struct place opened = token_here(r);

    for (r->pos += 2; token_look(r, 0) >= 0; r->pos++) {
        if (token_look(r, 0) == '*' && token_look(r, 1) == '/') {
            r->pos += 2;
            return;
        }
        if (token_look(r, 0) == '\n')
            r->line++;
    }
    r->context->cut_short = true;
    mistake_add(r->context->mistakes, opened, "the comment is never closed; end it with \"*/\"");
}

static void token_skip_space(struct token_reader *r)
{
    for (;;) {
        int c = token_look(r, 0);

        if (c == '\n') {
            r->line++;
            r->pos++;
        } else if (c == ' ' || c == '\t' || c == '\r') {
            r->pos++;
        } else if (c == '#' || (c == '/' && token_look(r, 1) == '/')) {
            while (token_look(r, 0) >= 0 && token_look(r, 0) != '\n')
                r->pos++;
        } else if (c == '/' && token_look(r, 1) == '*') {
            token_skip_comment(r);
        } else {
            return;
        }
    }
}

static bool token_ends_word(int c)
{
    return c < 0x21 || c == 0x7f || strchr("#\"'={}()+,;", c);
}

/* Reads a bare word, which ends before white space, a sign or a comment. */
static struct token token_read_word(struct token_reader *r)
{
    struct token t = { .kind = T_WORD, .place = token_here(r) };
    size_t begin = r->pos;

    while (!token_ends_word(token_look(r, 0))) {
        /* A comment, but for the two slashes of a bare URL. */
        if (token_look(r, 0) == '/' &&
            (token_look(r, 1) == '*' || (token_look(r, 1) == '/' && r->in.p[r->pos - 1] != ':')))
            break;
        if (token_look(r, 0) == '$' && token_look(r, 1) == '{') {
            while (token_look(r, 0) >= 0 && token_look(r, 0) != '}' && token_look(r, 0) != '\n')
                r->pos++;
            r->pos += token_look(r, 0) == '}';
            mistake_add(r->context->mistakes, t.place,
                "${...} stands outside of double quotes, where variables are not replaced; put it "
                "into "
                "\"...\"");
            t.bad = true;
            t.kind = T_STRING;
            return t;
        }
        r->pos++;
    }
    t.text = str_make(r->in.p + begin, r->pos - begin);
    return t;
}

bool token_is_variable_name(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = str_lower_char(s.p[i]);

        if (!(c == '_' || (c >= 'a' && c <= 'z') || (i > 0 && c >= '0' && c <= '9')))
            return false;
    }
    return s.n > 0;
}

/* The value of an environment variable. The file of env_file comes first: it is read again by each
 * reload, while the process keeps the environment that it was started with. */
static const char *token_find_variable(const struct token_context *s, const char *name)
{
    for (const struct token_variable *v = s->variables; v; v = v->next)
        if (strcmp(v->name.p, name) == 0)
            return v->value.p;
    return getenv(name);
}

/* ${file:PATH}: appends what the file holds, without the line's end. */
static void token_read_file(
    struct token_reader *r, struct token *t, struct str path, struct buf *out)
{
    struct token_context *s = r->context;
    struct str full = file_resolve(&s->arena, r->file, path), text;
    struct file_content content;
    char why[512];

    if (!full.p) {
        s->no_memory = true;
        return;
    }
    if (!file_read(full.p, FILE_CONTENT_MAX, &content, why, sizeof(why))) {
        mistake_add(s->mistakes, t->place, "${file:...}: %s", why);
        t->bad = true;
        return;
    }
    text = str_make(content.p, content.n);
    if (text.n > 0 && text.p[text.n - 1] == '\n') {
        text.n--;
        text.n -= text.n > 0 && text.p[text.n - 1] == '\r';
    }
    s->no_memory |= buf_append_str(out, text) < 0;
    file_forget(&content);
}

/* At "${": appends what the variable holds, or what stands behind ":-" if it is not set. */
static void token_read_variable(struct token_reader *r, struct token *t, struct buf *out)
{
    struct token_context *s = r->context;
    struct str rest = str_make(r->in.p + r->pos + 2, r->in.n - r->pos - 2);
    struct str inside, name, other, eol;
    const char *value, *cname;
    bool with_other;

    str_cut(rest, '\n', &inside, &eol);
    if (!str_cut(inside, '}', &inside, &rest) || str_find_char(inside, '"') >= 0) {
        mistake_add(s->mistakes, t->place,
            "\"${\" without \"}\"; write ${NAME}, or \\${ for the characters");
        t->bad = true;
        r->pos += 2;
        return;
    }
    r->pos += 2 + inside.n + 1;
    if (!str_cut(inside, ':', &name, &other))
        other = STR("");
    with_other = other.n > 0 && other.p[0] == '-';
    if (str_eq(name, STR("file")) && other.n > 0) {
        token_read_file(r, t, other, out);
        return;
    }
    if (!with_other)
        name = inside;
    if (!token_is_variable_name(name)) {
        mistake_add(s->mistakes, t->place,
            "%s is no name of a variable; write ${NAME}, or \\${ for the characters",
            mistake_quote(&s->arena, name));
        t->bad = true;
        return;
    }
    cname = arena_cstr(&s->arena, name);
    value = cname ? token_find_variable(s, cname) : NULL;
    if (value) {
        s->no_memory |= buf_append_str(out, str_of(value)) < 0;
    } else if (with_other) {
        s->no_memory |= buf_append(out, other.p + 1, other.n - 1) < 0;
    } else {
        mistake_add(s->mistakes, t->place,
            "the environment variable " STR_FMT " is not set; set it in the file of env_file or "
            "before Tarry starts, or write ${" STR_FMT ":-default}",
            STR_ARG(name), STR_ARG(name));
        t->bad = true;
    }
}

static int token_hex_value(int c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = c < 0 ? c : str_lower_char((char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* At a backslash in double quotes: the octet that it stands for, -1 for none (a line that goes on).
 */
static int token_read_escape(struct token_reader *r, struct token *t)
{
    static const char from[] = "nrbfaetv", to[] = "\n\r\b\f\a\033\t\v";
    int c = token_look(r, 1), v = 0;
    const char *at;
    size_t n;

    r->pos += 2;
    if (c == '\n') {
        r->line++;
        return -1;
    }
    if (c == 'x' && token_hex_value(token_look(r, 0)) >= 0) {
        for (n = 0; n < 2 && token_hex_value(token_look(r, 0)) >= 0; n++)
            v = v * 16 + token_hex_value((unsigned char)r->in.p[r->pos++]);
        return v;
    }
    if (c >= '0' && c <= '7') {
        for (v = c - '0', n = 1; n < 3 && token_look(r, 0) >= '0' && token_look(r, 0) <= '7'; n++)
            v = v * 8 + (r->in.p[r->pos++] - '0');
        if (v > 255 && !t->bad) {
            mistake_add(r->context->mistakes, t->place, "\\%o is no octet; the largest is \\377",
                (unsigned)v);
            t->bad = true;
        }
        return v & 255;
    }
    at = c > 0 ? strchr(from, c) : NULL;
    return at ? to[at - from] : c;
}

/* Reads a string in double or single quotes. It must end on its line, so that a forgotten quote is
 * found where it is. */
static struct token token_read_string(struct token_reader *r, int mark)
{
    struct token t = { .kind = T_STRING, .place = token_here(r) };
    struct buf out = { 0 };
    int c;

    r->pos++;
    while ((c = token_look(r, 0)) != mark) {
        if (c < 0 || c == '\n') {
            mistake_add(r->context->mistakes, t.place,
                "the string is never closed; end it with %c on the same line", mark);
            t.bad = true;
            r->pos--;
            break;
        }
        if (mark == '"' && c == '$' && token_look(r, 1) == '{') {
            token_read_variable(r, &t, &out);
            continue;
        }
        if (c == '\\' && token_look(r, 1) >= 0 &&
            (mark == '"' || token_look(r, 1) == '\'' || token_look(r, 1) == '\\')) {
            c = mark == '"' ? token_read_escape(r, &t) : (unsigned char)r->in.p[++r->pos];
            r->pos += mark != '"';
            if (c < 0)
                continue;
        } else {
            r->pos++;
        }
        r->context->no_memory |= buf_append(&out, &(char){ (char)c }, 1) < 0;
    }
    r->pos++;
    t.text = arena_copy(&r->context->arena, buf_str(&out));
    r->context->no_memory |= !t.text.p;
    if (!t.bad && t.text.p && strlen(t.text.p) != t.text.n) {
        mistake_add(r->context->mistakes, t.place, "the string holds a NUL octet; leave it out");
        t.bad = true;
    }
    buf_release(&out);
    return t;
}

static struct token read_token(struct token_reader *r)
{
    struct token t = { .kind = T_PUNCTUATION };
    int c;

    token_skip_space(r);
    if (token_look(r, 0) == ';') {
        mistake_add(r->context->mistakes, token_here(r),
            "\";\" ends nothing here: a statement ends with its value; leave it out");
        while (token_look(r, 0) == ';') {
            r->pos++;
            token_skip_space(r);
        }
    }
    c = token_look(r, 0);
    if (c < 0)
        return (struct token){ .kind = T_END, .place = token_here(r) };
    if (c == '"' || c == '\'')
        return token_read_string(r, c);
    if (!token_ends_word(c))
        return token_read_word(r);
    t.place = token_here(r);
    if (strchr("{}()=,", c) && c != 0) {
        t.c = (char)c;
        t.text = str_make(r->in.p + r->pos, 1);
        r->pos++;
        return t;
    }
    if (c == '+' && token_look(r, 1) == '=') {
        t.c = '+';
        t.text = str_make(r->in.p + r->pos, 2);
        r->pos += 2;
        return t;
    }
    /* An octet that is not allowed here. More of them on this line belong to the same mistake. */
    mistake_add(r->context->mistakes, t.place,
        c == '+' ? "\"+\" stands for nothing here; to add to a list write +="
                 : "the octet 0x%02x has no place here; is this a conf file?",
        (unsigned)c);
    while (token_look(r, 0) == '+' ||
           (token_look(r, 0) >= 0 && token_look(r, 0) < 0x20 && token_look(r, 0) != '\n') ||
           token_look(r, 0) == 0x7f)
        r->pos++;
    return (struct token){ .kind = T_STRING, .bad = true, .place = t.place };
}

const struct token *token_peek(struct token_reader *r, size_t i)
{
    while (r->nahead <= i)
        r->ahead[r->nahead++] = read_token(r);
    return &r->ahead[i];
}

struct token token_take(struct token_reader *r)
{
    struct token t = *token_peek(r, 0);

    r->ahead[0] = r->ahead[1];
    r->nahead--;
    return t;
}

bool token_is(const struct token *t, char c)
{
    return t->kind == T_PUNCTUATION && t->c == c;
}
