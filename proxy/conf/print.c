/* Numbers, sizes and durations come from the structs, since checks adapt some defaults to what is
 * written; the rest comes from the text of the file or of the option table. */
#include "conf/print.h"

#include <inttypes.h>
#include <string.h>

static void print_quoted(FILE *out, struct str text)
{
    fputc('"', out);
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];

        if (c == '"' || c == '\\' || (c == '$' && i + 1 < text.n && text.p[i + 1] == '{'))
            fprintf(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\x%02x", c);
        else
            fputc(c, out);
    }
    fputc('"', out);
}

static uint64_t print_number_at(const void *at, size_t width)
{
    unsigned small;
    uint64_t large;

    if (width == sizeof(small)) {
        memcpy(&small, at, sizeof(small));
        return small;
    }
    memcpy(&large, at, sizeof(large));
    return large;
}

/* With the largest unit that divides it without remainder. */
static void print_with_unit(
    FILE *out, uint64_t v, const uint64_t *sizes, const char *const *units, size_t n)
{
    size_t i = 0;

    while (i + 1 < n && (v == 0 || v % sizes[i] != 0))
        i++;
    fprintf(out, "\"%" PRIu64 "%s\"", v / sizes[i], units[i]);
}

static void print_size(FILE *out, uint64_t v)
{
    static const uint64_t sizes[] = { 1 << 30, 1 << 20, 1 << 10, 1 };
    static const char *const units[] = { "G", "M", "K", "" };

    print_with_unit(out, v, sizes, units, 4);
}

static void print_duration(FILE *out, uint64_t v)
{
    static const uint64_t sizes[] = { 86400000, 3600000, 60000, 1000, 1 };
    static const char *const units[] = { "d", "h", "m", "s", "ms" };

    print_with_unit(out, v, sizes, units, 5);
}

/* The name of a field of set_header. */
static struct str print_header_name(struct str text)
{
    struct str name, value;

    str_cut(text, ':', &name, &value);
    return name;
}

static void print_element(FILE *out, const struct opt *row, struct str text)
{
    if (row->type != OPT_HEADERS) {
        print_quoted(out, text);
        return;
    }
    fputc('"', out);
    fprintf(out, STR_FMT ": (not shown)\"", STR_ARG(print_header_name(text)));
}

static void print_list(FILE *out, const struct draft_section *s, const struct opt *row, bool set)
{
    struct str rest = row->def ? str_of(row->def) : STR(""), one;
    const char *comma = "";

    fputs("{ ", out);
    for (size_t i = 0; set && i < s->nnotes; i++) {
        if (s->notes[i].row != row)
            continue;
        fputs(comma, out);
        print_element(out, row, s->notes[i].text);
        comma = ", ";
    }
    while (!set && str_next_element(&rest, &one)) {
        fputs(comma, out);
        print_element(out, row, one);
        comma = ", ";
    }
    fputs(" }", out);
}

/* Without the user and the password. */
static void print_proxy(FILE *out, struct str text)
{
    size_t at = text.n;

    while (at > 0 && text.p[at - 1] != '@')
        at--;
    if (at == 0)
        print_quoted(out, text);
    else
        fprintf(out, "\"http://(not shown)@" STR_FMT "\"", (int)(text.n - at), text.p + at);
}

static void print_row(
    FILE *out, const struct draft_section *s, const struct opt *row, const char *indent)
{
    const struct draft_note *note = draft_find(s, row->name);
    const void *at = (const char *)s->base + row->offset;

    if (!note && !row->def)
        return;
    fprintf(out, "%s%s%s = ", indent, note ? "" : "# ", row->name);
    if (options_is_list(row->type))
        print_list(out, s, row, note != NULL);
    else if (row->type == OPT_NUMBER)
        fprintf(out, "%" PRIu64, print_number_at(at, row->width));
    else if (row->type == OPT_SIZE)
        print_size(out, print_number_at(at, row->width));
    else if (row->type == OPT_DURATION)
        print_duration(out, print_number_at(at, row->width));
    else if (row->type == OPT_BOOL)
        fputs(*(const bool *)at ? "true" : "false", out);
    else if (row->type == OPT_WORD)
        print_quoted(out, str_of(row->words[print_number_at(at, row->width)]));
    else if (row->type == OPT_HIDDEN && note)
        fputs("\"(not shown)\"", out);
    else if (row->type == OPT_PROXY && note)
        print_proxy(out, note->text);
    else
        print_quoted(out, note ? note->text : str_of(row->def));
    fputc('\n', out);
}

static void print_rows(FILE *out, const struct draft_section *s, const char *indent)
{
    const struct opt_section *sec = options_section(s->id);

    for (size_t i = 0; i < sec->nrows; i++)
        print_row(out, s, &sec->rows[i], indent);
}

static void print_head(FILE *out, const struct draft_section *s, const char *indent)
{
    const struct opt_section *sec = options_section(s->id);

    fprintf(out, "\n%s%s ", indent, sec->name);
    if (sec->title) {
        print_quoted(out, s->title);
        fputc(' ', out);
    }
    fputs("{\n", out);
}

void print_section(const struct draft *d, const struct draft_section *s, FILE *out)
{
    print_rows(out, s, "    ");
}

void print_draft(const struct draft *d, FILE *out)
{
    print_rows(out, &d->sections[0], "");
    for (size_t i = 1; i < d->nsections;) {
        const struct draft_section *s = &d->sections[i++];

        print_head(out, s, "");
        print_rows(out, s, "    ");
        /* The sections inside follow directly. */
        for (; i < d->nsections && options_section(d->sections[i].id)->parent == s->id; i++) {
            print_head(out, &d->sections[i], "    ");
            print_rows(out, &d->sections[i], "        ");
            fputs("    }\n", out);
        }
        fputs("}\n", out);
    }
}
