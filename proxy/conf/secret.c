/* Secrets. */
#include "conf/secret.h"

#include <stdio.h>

#include "conf/file.h"

#define WHY(...) (snprintf(why, VALUE_WHY_MAX, __VA_ARGS__), false)

/* Whether `text` is one; if not, what is wrong with it. */
static bool secret_check(struct str text, const char *path, char why[VALUE_WHY_MAX])
{
    if (text.n == 0)
        return WHY("\"%s\" is empty; put one line with the secret into it", path);
    if (text.n > SECRET_MAX)
        return WHY(
            "the secret in \"%s\" is longer than %d bytes; take a shorter one", path, SECRET_MAX);
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] < 0x21 || text.p[i] > 0x7e)
            return WHY("\"%s\" holds something else than visible ASCII in one line (octet %zu); "
                       "take letters and digits",
                path, i + 1);
    return true;
}

bool secret_read(struct arena *a, const char *path, struct str *out, char why[VALUE_WHY_MAX])
{
    struct file_content content;
    struct str text;
    bool good;

    if (!file_read(path, FILE_CONTENT_MAX, &content, why, VALUE_WHY_MAX))
        return false;
    text = str_make(content.p, content.n);
    if (text.n > 0 && text.p[text.n - 1] == '\n') {
        text.n--;
        text.n -= text.n > 0 && text.p[text.n - 1] == '\r';
    }
    good = secret_check(text, path, why);
    if (good) {
        *out = arena_copy(a, text);
        good = out->p || WHY("out of memory");
    }
    file_forget(&content);
    return good;
}
