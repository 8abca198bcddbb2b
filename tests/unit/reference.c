/* Writes the generated parts of the manual: `reference markdown|man < PAGE > NEW_PAGE`. What stands
 * outside of the marks is passed on as it is. See scripts/make-reference. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manual.h"

int main(int argc, char **argv)
{
    enum manual_form form;
    bool inside = false, found = false;
    char *line = NULL;
    size_t room = 0;

    if (argc != 2 || (strcmp(argv[1], "markdown") != 0 && strcmp(argv[1], "man") != 0)) {
        fputs("usage: reference markdown|man < PAGE > NEW_PAGE\n", stderr);
        return 2;
    }
    form = strcmp(argv[1], "man") == 0 ? MANUAL_MAN : MANUAL_MARKDOWN;
    while (getline(&line, &room, stdin) > 0) {
        if (strcmp(line, manual_end(form)) == 0)
            inside = false;
        if (!inside)
            fputs(line, stdout);
        if (strcmp(line, manual_begin(form)) == 0) {
            inside = found = true;
            manual_print(stdout, form);
        }
    }
    free(line);
    if (!found || inside) {
        fputs("reference: the page lacks the marks between which the options stand\n", stderr);
        return 1;
    }
    return 0;
}
