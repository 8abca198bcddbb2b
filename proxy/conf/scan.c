/* Files, and the grammar of statements:
 *
 *     NAME = value      NAME = { value, value }      NAME += { value }      include("path")
 *     SECTION { statements }      SECTION "title" { statements }
 *
 * token.c reads the words of which they are made.
 */
#include "conf/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "conf/envfile.h"
#include "conf/file.h"
#include "conf/options.h"
#include "conf/override.h"
#include "conf/tree.h"

/* A section being read; include files go on with that of the file that named them. */
struct scan_block {
    enum opt_section_id id;
    struct tree_section *into; /* NULL: its content is checked but leads nowhere, because the
                                  section itself was wrong */
    uint64_t lost;             /* SCAN_LOST_... */
    struct place opened;
    struct place seen[OPT_ROWS_MAX];       /* where each option was set; line 0: not yet */
    unsigned sections_seen[OPT_NSECTIONS]; /* lines, of those that may stand once only */
    bool overriding;                       /* the top of an override file */
};

static void scan_read_statements(struct token_reader *r, struct scan_block *b, bool nested);

static struct scan *scan_of(const struct token_reader *r)
{
    return (struct scan *)(void *)((char *)r->context - offsetof(struct scan, words));
}

static const char *scan_quote(struct scan *s, struct str text)
{
    return mistake_quote(&s->words.arena, text);
}

/* A value of `row` in the section that is being read. */
static void scan_add_value(
    struct scan *s, struct scan_block *b, const struct opt *row, const struct token *value)
{
    if (value->bad)
        b->lost |= SCAN_LOST_OPTION(row - options_section(b->id)->rows);
    else if (b->into &&
             tree_add_value(&s->words.arena, b->into, row, value->text, value->place) < 0)
        s->words.no_memory = true;
}

/* ---- statements ---- */

/* Passes over "{" and all up to its "}". */
static void scan_skip_braces(struct token_reader *r)
{
    struct token opened = token_take(r);
    size_t depth = 1;

    while (depth > 0) {
        struct token t = token_take(r);

        if (t.kind == T_END) {
            mistake_add(
                r->context->mistakes, opened.place, "\"{\" is never closed; its \"}\" is missing");
            return;
        }
        if (token_is(&t, '{'))
            depth++;
        else if (token_is(&t, '}'))
            depth--;
    }
}

/* Passes over the rest of a statement that was not understood: up to the end of its line or of its
 * section. */
static void scan_skip_statement(struct token_reader *r, unsigned line)
{
    for (;;) {
        const struct token *t = token_peek(r, 0);

        if (token_is(t, '{'))
            scan_skip_braces(r);
        else if (t->kind == T_END || t->place.line != line || token_is(t, '}'))
            return;
        else
            token_take(r);
    }
}

static void scan_note_lost(struct scan *s, struct str title)
{
    if (s->nlost == s->lost_room) {
        size_t room = s->lost_room ? s->lost_room * 2 : 8;
        struct str *p = realloc(s->lost, room * sizeof(*p));

        if (!p) {
            s->words.no_memory = true;
            return;
        }
        s->lost = p;
        s->lost_room = room;
    }
    s->lost[s->nlost++] = arena_copy(&s->words.arena, title);
}

static const char *scan_describe(struct scan *s, enum opt_section_id id)
{
    const char *name = options_section(id)->name;

    if (id == SECTION_ROOT)
        return "outside of sections";
    return arena_printf(
        &s->words.arena, "in %s %s section", strchr("aeiou", *name) ? "an" : "a", name)
        .p;
}

static uint64_t scan_lost_row(enum opt_section_id id, const struct opt *row)
{
    return SCAN_LOST_OPTION(row - options_section(id)->rows);
}

/* The bits to mark as lost for an unknown name in section `id`, which was probably meant as `near`
 * (NULL: anything). */
static uint64_t scan_lost_by(enum opt_section_id id, const char *near, bool is_section)
{
    const struct opt *row = near ? options_find(id, str_of(near)) : NULL;
    int inner = near ? options_find_section(id, str_of(near)) : -1;

    if (!near)
        return is_section ? SCAN_LOST_SECTIONS : SCAN_LOST_OPTIONS;
    return (row ? scan_lost_row(id, row) : 0) | (inner >= 0 ? SCAN_LOST_SECTION(inner) : 0);
}

static void scan_report_unknown(
    struct token_reader *r, struct scan_block *b, const struct token *name, bool is_section)
{
    struct scan *s = scan_of(r);
    const char *kind = is_section ? "section" : "option";
    const char *q = scan_quote(s, name->text);
    enum opt_section_id where = SECTION_ROOT;
    const char *near;
    int other = -1;

    for (int id = 0; is_section && id < OPT_NSECTIONS && other < 0; id++)
        other = options_find_section((enum opt_section_id)id, name->text);
    if (other >= 0) {
        near = options_section((enum opt_section_id)other)->name;
        where = options_section((enum opt_section_id)other)->parent;
    } else {
        near = options_nearest(b->id, name->text, &where);
    }
    b->lost |= scan_lost_by(b->id, where == b->id ? near : NULL, is_section);
    if (!near)
        mistake_add(s->words.mistakes, name->place,
            "unknown %s %s; see tarry.conf(5) for those that exist %s", kind, q,
            scan_describe(s, b->id));
    else if (where != b->id)
        mistake_add(s->words.mistakes, name->place, "%s does not belong here but %s%s", q,
            scan_describe(s, where), where == SECTION_ROOT ? "; is a \"}\" missing above?" : "");
    else
        mistake_add(
            s->words.mistakes, name->place, "unknown %s %s; did you mean \"%s\"?", kind, q, near);
}

/* Reads "{ value, value }" or one value. */
static void scan_read_list(struct token_reader *r, struct scan_block *b, const struct opt *row)
{
    struct scan *s = scan_of(r);
    struct token opened = token_take(r);
    bool comma = true, empty = true;

    if (opened.kind != T_PUNCTUATION) {
        scan_add_value(s, b, row, &opened);
        return;
    }
    for (;;) {
        const struct token *t = token_peek(r, 0);
        struct token value;

        if (token_is(t, '}')) {
            token_take(r);
            if (empty && row->def)
                mistake_add(s->words.mistakes, opened.place,
                    "%s: the list is empty; name a value, or leave the option out for its default "
                    "(%s)",
                    row->name, row->def);
            return;
        }
        if (t->kind == T_END ||
            (t->kind == T_WORD && token_peek(r, 1)->kind == T_PUNCTUATION &&
                (token_is(token_peek(r, 1), '=') || token_is(token_peek(r, 1), '{')))) {
            mistake_add(s->words.mistakes, opened.place,
                "the list of %s is never closed; its \"}\" is missing", row->name);
            b->lost |= scan_lost_row(b->id, row);
            return;
        }
        value = token_take(r);
        empty = false;
        if (token_is(&value, ',') && !comma) {
            comma = true;
            continue;
        }
        if (value.kind == T_PUNCTUATION) {
            mistake_add(s->words.mistakes, value.place,
                "unexpected \"" STR_FMT "\" in the list of %s; write { \"one\", \"two\" }",
                STR_ARG(value.text), row->name);
            b->lost |= scan_lost_row(b->id, row);
            comma = true;
            continue;
        }
        if (!comma)
            mistake_add(s->words.mistakes, value.place,
                "a comma is missing before %s in the list of %s", scan_quote(s, value.text),
                row->name);
        comma = false;
        scan_add_value(s, b, row, &value);
    }
}

/* Whether what comes next can be the value of an option in `line`, and not the next statement. */
static bool scan_value_follows(struct token_reader *r, unsigned line)
{
    const struct token *t = token_peek(r, 0);

    if (t->kind == T_STRING || token_is(t, '{'))
        return true;
    return t->kind == T_WORD && t->place.line == line;
}

/* env_file takes effect at its place: its variables can be used from the next line on. */
static void scan_read_env(struct token_reader *r, const struct token *value)
{
    struct token_context *c = r->context;
    struct str path = file_resolve(&c->arena, r->file, value->text);

    if (!path.p)
        c->no_memory = true;
    else if (path.n > 0)
        envfile_read(c, path.p, value->place);
}

/* Behind NAME, at "=" or "+=". */
static void scan_read_option(struct token_reader *r, struct scan_block *b, const struct token *name)
{
    struct scan *s = scan_of(r);
    const struct opt *row = options_find(b->id, name->text);
    struct token sign = token_take(r), value;
    size_t i;

    if (!row) {
        scan_report_unknown(r, b, name, false);
        if (scan_value_follows(r, sign.place.line)) {
            if (token_is(token_peek(r, 0), '{'))
                scan_skip_braces(r);
            else
                token_take(r);
        }
        return;
    }
    i = (size_t)(row - options_section(b->id)->rows);
    if (token_is(&sign, '+') && !options_is_list(row->type)) {
        mistake_add(
            s->words.mistakes, sign.place, "%s is no list; write = in place of +=", row->name);
        b->lost |= scan_lost_row(b->id, row);
    } else if (b->seen[i].line && !token_is(&sign, '+')) {
        mistake_add(s->words.mistakes, name->place,
            "%s is set twice, first at %s:%u; leave one of them out%s", row->name, b->seen[i].file,
            b->seen[i].line, options_is_list(row->type) ? ", or add with +=" : "");
    }
    if (!b->seen[i].line)
        b->seen[i] = name->place;
    if (!scan_value_follows(r, sign.place.line)) {
        mistake_add(s->words.mistakes, sign.place, "%s has no value; write %s = \"...\"", row->name,
            row->name);
        b->lost |= scan_lost_row(b->id, row);
        if (token_peek(r, 0)->kind == T_PUNCTUATION)
            scan_skip_statement(r, sign.place.line);
        return;
    }
    if (options_is_list(row->type)) {
        scan_read_list(r, b, row);
        return;
    }
    if (token_is(token_peek(r, 0), '{')) {
        mistake_add(s->words.mistakes, token_peek(r, 0)->place,
            "%s takes one value, not a list; write %s = \"...\"", row->name, row->name);
        b->lost |= scan_lost_row(b->id, row);
        scan_skip_braces(r);
        return;
    }
    value = token_take(r);
    scan_add_value(s, b, row, &value);
    if (b->id == SECTION_ROOT && str_eq(name->text, STR("env_file")) && !value.bad)
        scan_read_env(r, &value);
}

/* Behind SECTION, at the title or "{". `title` is NULL if there is none. */
static void scan_read_section(struct token_reader *r, struct scan_block *b,
    const struct token *name, const struct token *title)
{
    struct scan *s = scan_of(r);
    int id = options_find_section(b->id, name->text);
    const struct opt_section *sec;
    struct scan_block inner = { .opened = name->place };
    bool mute = !b->into;

    if (id < 0) {
        scan_report_unknown(r, b, name, true);
        if (title)
            scan_note_lost(s, title->text);
        scan_skip_braces(r);
        return;
    }
    sec = options_section((enum opt_section_id)id);
    inner.id = (enum opt_section_id)id;
    if (sec->title && !title) {
        mistake_add(s->words.mistakes, name->place, "%s has no %s; write %s \"%s\" { ... }",
            sec->name, sec->title, sec->name, sec->example);
        mute = true;
        b->lost |= SCAN_LOST_SECTION(id);
    } else if (!sec->title && title) {
        mistake_add(s->words.mistakes, title->place, "%s takes no title; write %s { ... }",
            sec->name, sec->name);
    } else if (title && title->bad) {
        mute = true;
        b->lost |= SCAN_LOST_SECTION(id);
    }
    if (!sec->many && b->sections_seen[id]) {
        mistake_add(s->words.mistakes, name->place,
            "%s stands twice, first in line %u; put all into one", sec->name, b->sections_seen[id]);
        mute = true;
    }
    if (!b->sections_seen[id])
        b->sections_seen[id] = name->place.line;
    if (++s->sections > SCAN_SECTIONS_MAX) {
        if (s->sections == SCAN_SECTIONS_MAX + 1)
            mistake_add(s->words.mistakes, name->place, "more than %d sections; leave some out",
                SCAN_SECTIONS_MAX);
        mute = true;
    }
    token_take(r); /* the "{" */
    if (!mute) {
        inner.into = tree_add_section(&s->words.arena, b->into, inner.id,
            title && sec->title ? title->text : STR(""), title ? title->place : name->place);
        s->words.no_memory |= !inner.into;
    }
    scan_read_statements(r, &inner, true);
    if (inner.into)
        inner.into->lost = inner.lost;
}

/* ---- files ---- */

/* Whether the file is being read already: it includes itself, perhaps over others. */
static bool scan_is_open(const struct token_reader *r, const struct stat *st)
{
    for (r = r->from; r; r = r->from)
        if (r->device == st->st_dev && r->inode == st->st_ino)
            return true;
    return false;
}

/* Reads r->file into r->in, in the arena. False after a mistake. Only the first file may be
 * something else than a regular one. */
static bool scan_read_file(struct token_reader *r, struct place at)
{
    struct scan *s = scan_of(r);
    int fd = file_open(r->file, r->from ? O_NONBLOCK : 0);
    const char *why = NULL;
    struct buf in = { 0 };
    struct stat st = { 0 };

    if (fd < 0)
        why = strerror(errno);
    else if (fstat(fd, &st) < 0 || S_ISDIR(st.st_mode) || (r->from && !S_ISREG(st.st_mode)))
        why = "it is no regular file";
    else if (scan_is_open(r, &st))
        why = "it includes itself; leave that out";
    if (!why) {
        r->device = st.st_dev;
        r->inode = st.st_ino;
    }
    while (!why) {
        size_t room;
        char *to = buf_reserve(&in, 16384, &room);
        ssize_t n = to ? read(fd, to, room) : -1;

        if (n < 0 && to && errno == EINTR)
            continue;
        if (n < 0)
            why = to ? strerror(errno) : "out of memory";
        if (n <= 0)
            break;
        buf_commit(&in, (size_t)n);
        if (buf_len(&in) > SCAN_FILE_MAX)
            why = "it is larger than 1 MiB";
    }
    s->bytes += buf_len(&in);
    if (!why && s->bytes > SCAN_TOTAL_MAX)
        why = "all files together are larger than 4 MiB";
    if (why)
        mistake_add(s->words.mistakes, at, "cannot read \"%s\": %s", r->file, why);
    else
        r->in = arena_copy(&s->words.arena, buf_str(&in));
    s->words.no_memory |= !why && !r->in.p;
    if (fd >= 0)
        close(fd);
    buf_release(&in);
    return r->in.p != NULL;
}

static void scan_read_included(
    struct token_reader *from, struct scan_block *b, const char *path, struct place at)
{
    struct scan *s = scan_of(from);
    struct token_reader r = { .context = &s->words, .from = from, .file = path, .line = 1 };

    if (s->depth >= SCAN_DEPTH_MAX) {
        mistake_add(s->words.mistakes, at,
            "include files are nested deeper than %d; put some of them together", SCAN_DEPTH_MAX);
        b->lost = SCAN_LOST_ALL;
        return;
    }
    if (!scan_read_file(&r, at)) {
        b->lost = SCAN_LOST_ALL;
        return;
    }
    s->depth++;
    scan_read_statements(&r, b, false);
    s->depth--;
}

/* Reads a file whose statements replace those above: first into a separate tree. */
static void scan_read_override(
    struct token_reader *from, struct scan_block *b, const char *path, struct place at)
{
    struct scan *s = scan_of(from);
    struct scan_block over = { .id = SECTION_ROOT, .overriding = true };

    over.into = tree_add_section(&s->words.arena, NULL, SECTION_ROOT, STR(""), at);
    if (!over.into || !b->into) {
        s->words.no_memory = true;
        return;
    }
    scan_read_included(from, &over, path, at);
    b->lost |= over.lost;
    override_merge(b->into, over.into);
    for (size_t i = 0; i < OPT_ROWS_MAX; i++)
        if (!b->seen[i].line)
            b->seen[i] = over.seen[i];
    for (size_t i = 0; i < OPT_NSECTIONS; i++)
        if (!b->sections_seen[i])
            b->sections_seen[i] = over.sections_seen[i];
}

/* Behind "include" or "override", at "(". */
static void scan_read_include(
    struct token_reader *r, struct scan_block *b, const struct token *name)
{
    struct scan *s = scan_of(r);
    struct token path, close;
    struct str full;
    bool override = str_eq(name->text, STR("override"));
    const char *word = override ? "override" : "include";

    token_take(r);
    path = *token_peek(r, 0);
    if (path.kind != T_STRING && path.kind != T_WORD) {
        mistake_add(
            s->words.mistakes, name->place, "%s has no file; write %s(\"file.conf\")", word, word);
        b->lost = SCAN_LOST_ALL;
        scan_skip_statement(r, name->place.line);
        return;
    }
    token_take(r);
    close = *token_peek(r, 0);
    if (!token_is(&close, ')')) {
        mistake_add(s->words.mistakes, name->place,
            "%s takes one file in parentheses; write %s(\"file.conf\")", word, word);
        b->lost = SCAN_LOST_ALL;
        scan_skip_statement(r, name->place.line);
        return;
    }
    token_take(r);
    if (path.bad || path.text.n == 0) {
        if (!path.bad)
            mistake_add(s->words.mistakes, path.place, "%s names no file; write %s(\"file.conf\")",
                word, word);
        b->lost = SCAN_LOST_ALL;
        return;
    }
    if (override && (b->id != SECTION_ROOT || b->overriding)) {
        mistake_add(s->words.mistakes, name->place,
            "override stands outside of sections, and not in a file that overrides; write "
            "include(\"file.conf\") here");
        b->lost = SCAN_LOST_ALL;
        return;
    }
    full = file_resolve(&s->words.arena, r->file, path.text);
    if (!full.p)
        s->words.no_memory = true;
    else if (override)
        scan_read_override(r, b, full.p, path.place);
    else
        scan_read_included(r, b, full.p, path.place);
}

static bool scan_is_include(const struct token *name)
{
    return str_eq(name->text, STR("include")) || str_eq(name->text, STR("override"));
}

/* Behind a word that neither "=" nor "{" follows. */
static void scan_report_no_statement(
    struct token_reader *r, struct scan_block *b, const struct token *name)
{
    struct scan *s = scan_of(r);
    const struct opt *row = options_find(b->id, name->text);
    int id = options_find_section(b->id, name->text);

    if (id >= 0) {
        mistake_add(s->words.mistakes, name->place, "\"{\" is missing behind %s",
            scan_quote(s, name->text));
        if (token_peek(r, 0)->kind != T_PUNCTUATION)
            scan_note_lost(s, token_peek(r, 0)->text);
        b->lost |= SCAN_LOST_SECTION(id);
    } else if (row) {
        mistake_add(s->words.mistakes, name->place, "\"=\" is missing behind %s",
            scan_quote(s, name->text));
        b->lost |= scan_lost_row(b->id, row);
    } else if (scan_is_include(name)) {
        mistake_add(s->words.mistakes, name->place,
            STR_FMT " takes one file in parentheses; write " STR_FMT "(\"file.conf\")",
            STR_ARG(name->text), STR_ARG(name->text));
        b->lost = SCAN_LOST_ALL;
    } else {
        mistake_add(s->words.mistakes, name->place,
            "%s is neither an option nor a section; write NAME = \"value\" or SECTION { ... }",
            scan_quote(s, name->text));
        b->lost = SCAN_LOST_ALL;
    }
}

/* At the first token of a statement, which is a word. */
static void scan_read_statement(struct token_reader *r, struct scan_block *b)
{
    struct token name = token_take(r), title;
    const struct token *next = token_peek(r, 0);

    if (token_is(next, '=') || token_is(next, '+')) {
        scan_read_option(r, b, &name);
    } else if (token_is(next, '{')) {
        scan_read_section(r, b, &name, NULL);
    } else if (token_is(next, '(') && scan_is_include(&name)) {
        scan_read_include(r, b, &name);
    } else if ((next->kind == T_STRING || next->kind == T_WORD) &&
               next->place.line == name.place.line && token_is(token_peek(r, 1), '{')) {
        title = token_take(r);
        scan_read_section(r, b, &name, &title);
    } else {
        scan_report_no_statement(r, b, &name);
        scan_skip_statement(r, name.place.line);
    }
}

/* Whether the "}" of section `b` is missing: the next word opens a section that only an outer one
 * knows. */
static bool scan_is_left_open(struct token_reader *r, const struct scan_block *b)
{
    const struct token *name = token_peek(r, 0);
    const struct token *next = token_peek(r, 1);
    enum opt_section_id id = b->id;

    if (name->kind != T_WORD || options_find_section(id, name->text) >= 0)
        return false;
    if (!token_is(next, '{') &&
        ((next->kind != T_STRING && next->kind != T_WORD) || next->place.line != name->place.line))
        return false;
    while (id != SECTION_ROOT) {
        id = options_section(id)->parent;
        if (options_find_section(id, name->text) >= 0)
            return true;
    }
    return false;
}

/* Up to the section's "}", or the end of the file. `nested`: the section was opened in this file.
 */
static void scan_read_statements(struct token_reader *r, struct scan_block *b, bool nested)
{
    struct scan *s = scan_of(r);

    for (;;) {
        const struct token *t = token_peek(r, 0);
        struct token stray;

        if (t->kind == T_WORD && nested && scan_is_left_open(r, b)) {
            mistake_add(s->words.mistakes, t->place,
                "the section %s, opened in line %u, is not closed before this; a \"}\" is missing",
                options_section(b->id)->name, b->opened.line);
            return;
        }
        if (t->kind == T_WORD) {
            scan_read_statement(r, b);
            continue;
        }
        stray = token_take(r);
        if (stray.kind == T_END) {
            if (nested) {
                mistake_add(s->words.mistakes, b->opened,
                    "the section %s is never closed; its \"}\" is missing",
                    options_section(b->id)->name);
            }
            return;
        }
        if (token_is(&stray, '}') && nested)
            return;
        if (token_is(&stray, '}')) {
            mistake_add(s->words.mistakes, stray.place, "\"}\" closes nothing; leave it out");
            continue;
        }
        if (!stray.bad)
            mistake_add(s->words.mistakes, stray.place,
                "unexpected %s; write NAME = \"value\" or SECTION { ... }",
                scan_quote(s, stray.text));
        b->lost = SCAN_LOST_ALL;
        scan_skip_statement(r, stray.place.line);
    }
}

void scan_read(struct scan *s, const char *path, struct mistakes *m)
{
    struct token_reader r = { .context = &s->words, .line = 1 };
    struct scan_block root = { .id = SECTION_ROOT };

    *s = (struct scan){ .words = { .mistakes = m, .seq = 1 } };
    r.file = arena_cstr(&s->words.arena, str_of(path));
    if (r.file) {
        s->start = (struct place){ r.file, 1, 0 };
        root.into = tree_add_section(&s->words.arena, NULL, SECTION_ROOT, STR(""), s->start);
    }
    s->root = root.into;
    if (!s->root) {
        s->words.no_memory = true;
        return;
    }
    if (!scan_read_file(&r, s->start)) {
        s->root->lost = SCAN_LOST_ALL;
        return;
    }
    if (str_starts_with(r.in, STR("\xef\xbb\xbf"))) /* some editors put it before UTF-8 */
        r.pos = 3;
    scan_read_statements(&r, &root, false);
    s->root->lost = s->words.cut_short ? SCAN_LOST_ALL : root.lost;
}

bool scan_lost(const struct scan *s, struct str title)
{
    for (size_t i = 0; i < s->nlost; i++)
        if (str_eq(s->lost[i], title))
            return true;
    return false;
}

void scan_release(struct scan *s)
{
    free(s->lost);
    arena_release(&s->words.arena);
    *s = (struct scan){ 0 };
}
