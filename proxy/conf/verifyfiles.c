/* Checks of files and folders: whether they exist, and which other accounts can read or write them.
 */
#include "conf/verifyfiles.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/file.h"

static void verifyfiles_check_folder(
    struct draft *d, const struct draft_section *s, const struct opt *row, const char *path)
{
    struct place at = draft_place(s, row->name);
    struct stat st;

    if (stat(path, &st) < 0)
        mistake_add(&d->mistakes, at, "%s: cannot use \"%s\": %s; name a folder that exists",
            row->name, path, strerror(errno));
    else if (!S_ISDIR(st.st_mode))
        mistake_add(
            &d->mistakes, at, "%s: \"%s\" is no folder; name one that exists", row->name, path);
    else if ((geteuid() != 0 || d->conf->user.n == 0) && access(path, W_OK | X_OK) < 0)
        /* If root will become another user, the check is made for that user: see
         * process/privileges. */
        mistake_add(
            &d->mistakes, at, "%s: cannot write to \"%s\": %s", row->name, path, strerror(errno));
}

static void verifyfiles_check_target(struct draft *d, const struct draft_section *s,
    const struct opt *row, const struct log_target *target)
{
    struct place at = draft_place(s, row->name);
    const char *slash, *folder;
    struct stat st;

    if (target->kind != LOG_TO_FILE)
        return;
    slash = strrchr(target->path.p, '/');
    folder =
        arena_cstr(&d->scratch, str_make(target->path.p, (size_t)(slash - target->path.p) + 1));
    if (!folder)
        d->mistakes.no_memory = true;
    else if (stat(folder, &st) < 0 || !S_ISDIR(st.st_mode))
        mistake_add(&d->mistakes, at,
            "%s: the folder \"%s\" is not there; make it, or name another file", row->name, folder);
    else if (stat(target->path.p, &st) == 0 && S_ISDIR(st.st_mode))
        mistake_add(&d->mistakes, at, "%s: \"%s\" is a folder; name a file in it", row->name,
            target->path.p);
    else if ((geteuid() != 0 || d->conf->user.n == 0) && /* as above */
             (access(target->path.p, F_OK) == 0 ? access(target->path.p, W_OK) < 0
                                                : access(folder, W_OK | X_OK) < 0))
        mistake_add(&d->mistakes, at,
            "%s: \"%s\" cannot be written: %s; let the account that runs Tarry write there",
            row->name, target->path.p, strerror(errno));
}

/* A secret that every account of the machine can read. Container platforms mount secrets like that,
 * so it is not a mistake. */
static void verifyfiles_check_secrecy(
    struct draft *d, const struct draft_section *s, const struct opt *row)
{
    const struct draft_note *note = draft_find(s, row->name);
    struct str path;
    struct stat st;

    if (!note || note->text.n == 0)
        return;
    path = file_resolve(&d->scratch, note->place.file, note->text);
    if (!path.p)
        d->mistakes.no_memory = true;
    else if (stat(path.p, &st) == 0 && (st.st_mode & S_IROTH))
        mistake_warn(&d->mistakes, note->place,
            "%s: every account of this machine can read \"%s\"; chmod o-r it", row->name, path.p);
}

static bool verifyfiles_is_secret(const struct opt *row)
{
    return row->type == OPT_SECRET || str_eq(str_of(row->name), STR("private_key")) ||
           str_eq(str_of(row->name), STR("env_file"));
}

void verifyfiles_section(struct draft *d, const struct draft_section *s)
{
    const struct opt_section *sec = options_section(s->id);

    for (size_t i = 0; i < sec->nrows; i++) {
        const struct opt *row = &sec->rows[i];
        const void *at = (const char *)s->base + row->offset;

        if (row->type == OPT_FOLDER)
            verifyfiles_check_folder(d, s, row, ((const struct str *)at)->p);
        else if (row->type == OPT_TARGET)
            verifyfiles_check_target(d, s, row, at);
        else if (verifyfiles_is_secret(row))
            verifyfiles_check_secrecy(d, s, row);
    }
}

/* With `user`, Tarry is started as root and opens what the conf names with root's rights. */
void verifyfiles_conf(struct draft *d)
{
    const char *last = NULL;
    struct stat st;

    if (d->conf->user.n == 0)
        return;
    for (size_t i = 0; i < d->nsections; i++)
        for (size_t j = 0; j <= d->sections[i].nnotes; j++) {
            const struct draft_section *s = &d->sections[i];
            struct place at = j < s->nnotes ? s->notes[j].place : s->place;

            if (at.file == last)
                continue;
            last = at.file;
            if (stat(at.file, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & S_IWOTH))
                mistake_add(&d->mistakes, (struct place){ at.file, 1, at.seq },
                    "every account of this machine can write this file, which Tarry reads as root; "
                    "chmod o-w it");
        }
}
