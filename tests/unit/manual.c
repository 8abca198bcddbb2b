/* Options as reference pages. */
#include "manual.h"

#include <stdbool.h>
#include <string.h>

#include "conf/options.h"

/* What stands for the value in "name = VALUE". */
static const char *const value_words[] = {
    [OPT_NUMBER] = "number",
    [OPT_SIZE] = "size",
    [OPT_DURATION] = "duration",
    [OPT_BOOL] = "true or false",
    [OPT_WORD] = "word",
    [OPT_FILE] = "file",
    [OPT_FOLDER] = "folder",
    [OPT_SECRET] = "file",
    [OPT_TARGET] = "target",
    [OPT_USER] = "name",
    [OPT_MODE] = "permissions",
    [OPT_GROUP] = "name",
    [OPT_HOST] = "host",
    [OPT_ORIGIN] = "origin",
    [OPT_TEXT] = "text",
    [OPT_PATH] = "path",
    [OPT_SELECTOR] = "key",
    [OPT_PROXY] = "URL",
    [OPT_HIDDEN] = "text",
    [OPT_STATUSES] = "list of statuses",
    [OPT_WEIGHTS] = "list of weights",
    [OPT_KINDS] = "list of words",
    [OPT_POOL] = "workers' name",
    [OPT_UPSTREAM] = "upstream's name",
    [OPT_CIDRS] = "list of networks",
    [OPT_HEADERS] = "list of fields",
    [OPT_NAMES] = "list of names",
    [OPT_HOSTS] = "list of hosts",
    [OPT_TYPES] = "list of media types",
    [OPT_ENCODINGS] = "list of words",
};

static const char when_restart[] = "A change takes effect when Tarry is started again.";

/* The order of the pages: as a conf is written. */
static const enum opt_section_id order[OPT_NSECTIONS] = { SECTION_ROOT, SECTION_LISTEN,
    SECTION_IDENTITY, SECTION_WORKERS, SECTION_SERVER, SECTION_UPSTREAM, SECTION_ENDPOINT,
    SECTION_LIMIT, SECTION_ROUTE, SECTION_COMPRESSION, SECTION_LOG, SECTION_ACCESS_LOG,
    SECTION_TRACING, SECTION_ADMIN };

/* `text` with what the form would take for markup made harmless. */
static void print_text(FILE *out, enum manual_form form, const char *text)
{
    for (; *text; text++) {
        if (form == MANUAL_MARKDOWN && strchr("|<>*_", *text))
            fprintf(out, "\\%c", *text);
        else if (form == MANUAL_MAN && *text == '\\')
            fputs("\\e", out);
        else if (form == MANUAL_MAN && *text == '-')
            fputs("\\-", out);
        else
            fputc(*text, out);
    }
}

static void print_words(FILE *out, enum manual_form form, const struct opt *row)
{
    if (options_is_list(row->type))
        fputs("list of ", out);
    for (size_t i = 0; row->words[i]; i++) {
        fputs(i == 0 ? "" : row->words[i + 1] ? ", " : " or ", out);
        print_text(out, form, row->words[i]);
    }
}

static void print_default(FILE *out, enum manual_form form, const struct opt *row)
{
    if (row->required)
        fputs("must be set", out);
    else if (!row->def || !row->def[0])
        fputs(options_is_list(row->type) ? "empty" : "none", out);
    else
        print_text(out, form, row->def);
}

static void print_markdown_row(FILE *out, const struct opt *row)
{
    fprintf(out, "| `%s` | ", row->name);
    if (row->words)
        print_words(out, MANUAL_MARKDOWN, row);
    else
        fputs(value_words[row->type], out);
    if (row->min)
        fprintf(out, ", %s to %s", row->min, row->max);
    fputs(" | ", out);
    print_default(out, MANUAL_MARKDOWN, row);
    fputs(" | ", out);
    print_text(out, MANUAL_MARKDOWN, row->help);
    if (row->when == OPT_RESTART)
        fprintf(out, " %s", when_restart);
    fputs(" |\n", out);
}

static void print_markdown(FILE *out, enum opt_section_id id)
{
    const struct opt_section *s = options_section(id);

    if (id == SECTION_ROOT)
        fputs("### Outside of sections\n\n", out);
    else if (s->title)
        fprintf(out, "### %s \"%s\" { ... }\n\n", s->name, s->title);
    else
        fprintf(out, "### %s { ... }\n\n", s->name);
    print_text(out, MANUAL_MARKDOWN, s->help);
    fputs("\n\n", out);
    if (s->nrows == 0) {
        fputs("It has no options.\n\n", out);
        return;
    }
    fputs("| option | value | default | meaning |\n| --- | --- | --- | --- |\n", out);
    for (size_t i = 0; i < s->nrows; i++)
        print_markdown_row(out, &s->rows[i]);
    fputs("\n", out);
}

/* A line of text that does not begin like a request. */
static void print_man_text(FILE *out, const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", out);
    print_text(out, MANUAL_MAN, text);
    fputc('\n', out);
}

static void print_man_row(FILE *out, const struct opt *row)
{
    fprintf(out, ".TP\n\\fB%s\\fR = ", row->name);
    if (row->words) {
        print_words(out, MANUAL_MAN, row);
    } else {
        fputs("\\fI", out);
        print_text(out, MANUAL_MAN, value_words[row->type]);
        fputs("\\fR", out);
    }
    fputs(" (", out);
    if (row->min)
        fprintf(out, "%s to %s, ", row->min, row->max);
    fputs(row->required ? "" : "default ", out);
    print_default(out, MANUAL_MAN, row);
    fputs(")\n", out);
    print_man_text(out, row->help);
    if (row->when == OPT_RESTART)
        print_man_text(out, when_restart);
}

static void print_man(FILE *out, enum opt_section_id id)
{
    const struct opt_section *s = options_section(id);

    if (id == SECTION_ROOT)
        fputs(".SS Outside of sections\n", out);
    else if (s->title)
        fprintf(out, ".SS %s \"\\fI%s\\fP\" { ... }\n", s->name, s->title);
    else
        fprintf(out, ".SS %s { ... }\n", s->name);
    print_man_text(out, s->help);
    for (size_t i = 0; i < s->nrows; i++)
        print_man_row(out, &s->rows[i]);
}

void manual_print(FILE *out, enum manual_form form)
{
    for (size_t i = 0; i < OPT_NSECTIONS; i++) {
        if (form == MANUAL_MARKDOWN)
            print_markdown(out, order[i]);
        else
            print_man(out, order[i]);
    }
}

const char *manual_begin(enum manual_form form)
{
    return form == MANUAL_MARKDOWN ? "<!-- options: from the table in proxy/conf/options.c, by "
                                     "scripts/make-reference -->\n"
                                   : ".\\\" options: from the table in proxy/conf/options.c, by "
                                     "scripts/make-reference\n";
}

const char *manual_end(enum manual_form form)
{
    return form == MANUAL_MARKDOWN ? "<!-- end of options -->\n" : ".\\\" end of options\n";
}

const char *manual_page(enum manual_form form)
{
    return form == MANUAL_MARKDOWN ? "docs/configuration.md" : "docs/man/tarry.conf.5";
}
