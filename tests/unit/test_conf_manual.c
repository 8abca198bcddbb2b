/* The pages say what the option table says. */
#include "manual.h"

#include <stdlib.h>
#include <string.h>

#include "conf/options.h"
#include "conffile.h"
#include "unit.h"

static char *read_page(const char *page)
{
    char path[512], *text = NULL;
    size_t n = 0;
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", TOP_SRCDIR, page);
    f = fopen(path, "r");
    ck_assert_msg(f != NULL, "cannot read %s", path);
    ck_assert_int_gt(getdelim(&text, &n, '\0', f), 0);
    fclose(f);
    return text;
}

static char *generate(enum manual_form form)
{
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);

    manual_print(f, form);
    fclose(f);
    return text;
}

START_TEST(pages_are_up_to_date)
{
    enum manual_form form = (enum manual_form)_i;
    char *page = read_page(manual_page(form)), *want = generate(form);
    char *begin = strstr(page, manual_begin(form)), *end = strstr(page, manual_end(form));

    ck_assert_msg(begin && end && begin < end, "%s lacks the marks", manual_page(form));
    begin += strlen(manual_begin(form));
    ck_assert_msg((size_t)(end - begin) == strlen(want) && memcmp(begin, want, strlen(want)) == 0,
        "%s does not match the option table: run scripts/make-reference", manual_page(form));
    free(page);
    free(want);
}
END_TEST

START_TEST(every_option_is_in_it)
{
    char *text = generate((enum manual_form)_i), name[80];

    for (int id = 0; id < OPT_NSECTIONS; id++) {
        const struct opt_section *s = options_section((enum opt_section_id)id);

        for (size_t i = 0; i < s->nrows; i++) {
            snprintf(name, sizeof(name),
                _i == MANUAL_MARKDOWN ? "| `%s` |" : "\\fB%s\\fR = ", s->rows[i].name);
            ck_assert_msg(strstr(text, name) != NULL, "%s is missing", name);
        }
    }
    free(text);
}
END_TEST

/* `text` with what only an installed Tarry has moved to the test's folder, and run by a user that
 * there is. */
static struct str in_test_folder(struct arena *a, const char *text, size_t n)
{
    const struct {
        const char *installed, *here;
    } moves[] = {
        { "/etc/tarry/", conffile_path("") },
        { "/var/log/tarry/", conffile_path("") },
        { "\"tarry\"", "\"root\"" },
    };
    struct str out = STR("");

    for (size_t i = 0; i < n;) {
        size_t k = 0, count = sizeof(moves) / sizeof(*moves);

        while (k < count && strncmp(text + i, moves[k].installed, strlen(moves[k].installed)) != 0)
            k++;
        out = k < count ? arena_printf(a, STR_FMT "%s", STR_ARG(out), moves[k].here)
                        : arena_printf(a, STR_FMT "%c", STR_ARG(out), text[i]);
        i += k < count ? strlen(moves[k].installed) : 1;
    }
    return out;
}

static void check_example(const char *text, size_t n)
{
    struct arena a = { 0 };

    setenv("OPENAI_API_KEY", "k", 1);
    setenv("ANTHROPIC_API_KEY", "k", 1);
    conffile_put_certificate("site");
    conffile_put_certificate("example");
    conffile_put_certificate("machines");
    conffile_put_named_certificate("shop", "DNS:shop.example");
    conffile_put_named_certificate("office", "DNS:office.example");
    conffile_put("worker.secret", "s3cret\n");
    conffile_put("tickets", "0123456789abcdef0123456789abcdef\n");
    conf_unref(conffile_must_load(in_test_folder(&a, text, n).p));
    arena_release(&a);
}

START_TEST(examples_are_sound)
{
    char *page = read_page("docs/configuration.md");
    int found = 0;

    /* Blocks are between lines of three backquotes; complete confs are those that listen and route.
     */
    for (char *open = strstr(page, "\n```\n"), *end; open; open = strstr(end + 4, "\n```\n")) {
        char *listens = strstr(open, "\nlisten \""), *routes = strstr(open, "\nroute \"");

        open += 5;
        end = strstr(open - 1, "\n```\n");
        ck_assert_ptr_nonnull(end);
        if (listens && routes && listens < end && routes < end) {
            check_example(open, (size_t)(end + 1 - open));
            found++;
        }
    }
    ck_assert_int_ge(found, 4);
    free(page);
}
END_TEST

START_TEST(the_sample_is_sound)
{
    char *text = read_page("conf/tarry.conf");

    check_example(text, strlen(text));
    free(text);
}
END_TEST

/* Each line that is commented out in the sample is right once it is not. */
START_TEST(the_sample_is_sound_with_all_that_it_offers)
{
    char *text = read_page("conf/tarry.conf"), *out = malloc(strlen(text) + 1), *to = out;

    for (char *line = text, *end; *line; line = end) {
        size_t blank = strspn(line, " ");

        end = strchr(line, '\n') + 1;
        if (line[blank] == '#' && line[blank + 1] != ' ' && line[blank + 1] != '\n')
            line += blank + 1;
        else if (line[blank] == '#' && strncmp(line + blank, "#    ", 5) == 0)
            line += blank + 1;
        memcpy(to, line, (size_t)(end - line));
        to += end - line;
    }
    *to = '\0';
    ck_assert_ptr_nonnull(strstr(out, "\nadmin \""));
    ck_assert_ptr_nonnull(strstr(out, "\n    certificate = "));
    check_example(out, strlen(out));
    free(out);
    free(text);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("manual");

    tcase_add_checked_fixture(t, conffile_open, conffile_close);
    tcase_add_loop_test(t, pages_are_up_to_date, 0, 2);
    tcase_add_loop_test(t, every_option_is_in_it, 0, 2);
    tcase_add_test(t, examples_are_sound);
    tcase_add_test(t, the_sample_is_sound);
    tcase_add_test(t, the_sample_is_sound_with_all_that_it_offers);
    return t;
}

UNIT_MAIN("conf_manual")
