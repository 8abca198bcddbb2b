/* Lines of NAME=value. */
#include "conf/envfile.h"

#include "conf/file.h"

static void envfile_keep(struct token_context *c, struct str name, struct str value)
{
    struct token_variable *v = arena_alloc(&c->arena, sizeof(*v));

    if (v) {
        v->name = arena_copy(&c->arena, name);
        v->value = arena_copy(&c->arena, value);
        v->next = c->variables;
    }
    if (!v || !v->name.p || !v->value.p) {
        c->no_memory = true;
        return;
    }
    c->variables = v;
}

static bool envfile_is_quoted(struct str value)
{
    return value.n >= 2 && (value.p[0] == '"' || value.p[0] == '\'') &&
           value.p[value.n - 1] == value.p[0];
}

static void envfile_read_line(struct token_context *c, struct str line, struct place at)
{
    struct str name, value;

    line = str_trim(line);
    if (line.n == 0 || line.p[0] == '#' || line.p[0] == ';')
        return;
    if (str_starts_with(line, STR("export ")))
        line = str_trim(str_make(line.p + 7, line.n - 7));
    if (!str_cut(line, '=', &name, &value) || !token_is_variable_name(str_trim(name))) {
        /* The line itself may be a secret: it is not shown. */
        mistake_add(
            c->mistakes, at, "no NAME=value; write one on each line, or # before a comment");
        return;
    }
    value = str_trim(value);
    if (envfile_is_quoted(value))
        value = str_make(value.p + 1, value.n - 2);
    envfile_keep(c, str_trim(name), value);
}

void envfile_read(struct token_context *c, const char *path, struct place at)
{
    struct file_content content;
    struct str rest, line;
    char why[512];
    unsigned n = 1;

    if (!file_read(path, FILE_CONTENT_MAX, &content, why, sizeof(why))) {
        mistake_add(c->mistakes, at, "env_file: %s", why);
        return;
    }
    rest = str_make(content.p, content.n);
    for (; rest.n > 0; n++) {
        str_cut(rest, '\n', &line, &rest);
        line.n -= line.n > 0 && line.p[line.n - 1] == '\r';
        envfile_read_line(c, line, (struct place){ path, n, at.seq });
    }
    file_forget(&content);
}
