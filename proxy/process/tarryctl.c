/* tarryctl: asks a running Tarry over its control socket, and tells it what to do. With several
 * processes each has a socket of its own, SOCKET.0, SOCKET.1 and so on: all are asked. */
#include <errno.h>
#include <getopt.h>
#include <glob.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define DEFAULT_SOCKET "/run/tarry/control.sock"

enum { TIMEOUT_S = 10, TOP_PAUSE_S = 2 };

static void tarryctl_usage(FILE *to)
{
    fputs(
        "usage: tarryctl [-j] [-s SOCKET] COMMAND\n"
        "  show exchanges|workers|upstreams|conf|errors|process\n"
        "  top                        workers and exchanges, again and again\n"
        "  drain                      finish what is in flight, then end (as SIGTERM)\n"
        "  pause NAME, resume NAME    hold back the requests of a pool, or the calls to UPSTREAM\n"
        "                             or UPSTREAM/ENDPOINT, and let them go on\n"
        "  cancel EXCHANGE            end a request\n"
        "  log LEVEL                  error, warn, info or debug, until the next reload\n"
        "  -j         JSON, for the show commands\n"
        "  -s SOCKET  of an admin section with control = true; " DEFAULT_SOCKET " if left out\n"
        "  -h         print this\n",
        to);
}

/* ---- one question to one process ---- */

struct tarryctl_answer {
    char *text; /* the body, with a NUL behind it */
    size_t n;
    int status; /* of HTTP */
};

static int tarryctl_ask_connect(const char *path)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    struct timeval limit = { .tv_sec = TIMEOUT_S };
    int fd, saved;

    if (strlen(path) >= sizeof(un.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(un.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&un, sizeof(un)) == 0)
        return fd;
    saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static char *tarryctl_read_all(int fd, size_t *n)
{
    size_t room = 0;
    char *all = NULL, *more;
    ssize_t got;

    *n = 0;
    do {
        if (room - *n < 4096) {
            room = room ? room * 2 : 16384;
            more = realloc(all, room + 1);
            if (!more)
                break;
            all = more;
        }
        got = read(fd, all + *n, room - *n);
        if (got > 0)
            *n += (size_t)got;
    } while (got > 0 || (got < 0 && errno == EINTR));
    if (all)
        all[*n] = '\0';
    return all;
}

/* False with errno: it cannot be reached. */
static bool tarryctl_ask(
    const char *path, const char *method, const char *target, struct tarryctl_answer *out)
{
    int fd = tarryctl_ask_connect(path);
    char *all, *body;
    size_t n;

    if (fd < 0)
        return false;
    dprintf(fd, "%s %s HTTP/1.1\r\nHost: tarryctl\r\nConnection: close\r\n\r\n", method, target);
    all = tarryctl_read_all(fd, &n);
    close(fd);
    body = all ? strstr(all, "\r\n\r\n") : NULL;
    if (!body || sscanf(all, "HTTP/1.1 %d", &out->status) != 1) {
        free(all);
        errno = EPROTO;
        return false;
    }
    body += 4;
    out->n = n - (size_t)(body - all);
    memmove(all, body, out->n + 1);
    out->text = all;
    return true;
}

/* ---- all processes ---- */

static bool tarryctl_find_sockets(const char *path, glob_t *found)
{
    char pattern[256];

    if (access(path, F_OK) == 0)
        return glob(path, GLOB_NOCHECK, NULL, found) == 0;
    snprintf(pattern, sizeof(pattern), "%s.[0-9]*", path);
    if (glob(pattern, 0, NULL, found) == 0)
        return true;
    fprintf(stderr,
        "tarryctl: no socket \"%s\": is Tarry running, with an admin section with control = "
        "true?\n",
        path);
    return false;
}

/* Parts of one array become one array; the first line of a table stands once. `*any`: something was
 * put before. */
static void tarryctl_put_part(const struct tarryctl_answer *a, bool json, bool table, bool *any)
{
    const char *p = a->text;
    size_t n = a->n;

    if (json && table) {
        while (n > 0 && (p[n - 1] == '\n' || p[n - 1] == ']'))
            n--;
        if (n > 0 && *p == '[') {
            p++;
            n--;
        }
        printf("%s%.*s", *any && n > 0 ? "," : "", (int)n, p);
        *any |= n > 0;
    } else {
        const char *line = *any && table ? strchr(p, '\n') : NULL;

        fputs(line ? line + 1 : p, stdout);
        *any = true;
    }
}

enum which { EACH, ONE, ANY };

/* EACH: all processes are asked; ONE: the first will do; ANY: one of them has to know it. */
static int tarryctl_run(const char *path, const char *method, const char *target, enum which which,
    bool json, bool table)
{
    bool first = true, good = false, bad = false, any = false;
    glob_t found;

    if (!tarryctl_find_sockets(path, &found))
        return 1;
    if (json && table)
        putchar('[');
    for (size_t i = 0; i < found.gl_pathc && (which != ONE || first); i++) {
        struct tarryctl_answer a = { 0 };

        if (!tarryctl_ask(found.gl_pathv[i], method, target, &a)) {
            fprintf(stderr, "tarryctl: %s: %s\n", found.gl_pathv[i], strerror(errno));
            bad = true;
            continue;
        }
        good |= a.status == 200;
        if (a.status == 200)
            tarryctl_put_part(&a, json, table, &any);
        else if (which != ANY || (i + 1 == found.gl_pathc && !good))
            fprintf(stderr, "tarryctl: %s", a.text);
        bad |= a.status != 200 && which != ANY;
        first = first && a.status != 200;
        free(a.text);
    }
    if (json && table)
        puts("]");
    globfree(&found);
    return good && !bad ? 0 : 1;
}

static int tarryctl_show(const char *path, const char *what, bool json)
{
    static const struct {
        const char *name;
        enum which which;
        bool table, headed;
    } pages[] = { { "exchanges", EACH, true, false }, { "workers", EACH, true, true },
        { "upstreams", EACH, true, true }, { "conf", ONE, false, false },
        { "errors", EACH, true, false }, { "process", EACH, false, false } };
    char target[64];

    for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++) {
        if (strcmp(pages[i].name, what) != 0)
            continue;
        snprintf(target, sizeof(target), "/%s%s", what, json ? "?json" : "");
        return tarryctl_run(
            path, "GET", target, pages[i].which, json, json ? pages[i].table : pages[i].headed);
    }
    fprintf(stderr,
        "tarryctl: cannot show \"%s\"; there are exchanges, workers, upstreams, conf, errors and "
        "process\n",
        what);
    return 2;
}

static int tarryctl_top(const char *path)
{
    for (;;) {
        fputs("\033[H\033[2J", stdout);
        if (tarryctl_show(path, "workers", false) != 0)
            return 1;
        putchar('\n');
        tarryctl_show(path, "exchanges", false);
        fflush(stdout);
        sleep(TOP_PAUSE_S);
    }
}

static int tarryctl_change(const char *path, const char *verb, const char *what)
{
    char target[256];

    snprintf(target, sizeof(target), "/%s%s%s", verb, what ? "/" : "", what ? what : "");
    return tarryctl_run(path, "POST", target,
        strcmp(verb, "drain") == 0    ? ONE
        : strcmp(verb, "cancel") == 0 ? ANY
                                      : EACH,
        false, strcmp(verb, "drain") != 0);
}

/* What may stand in a path as it is: names, and UPSTREAM/ENDPOINT. */
static bool tarryctl_is_plain(const char *word)
{
    const char *slash = strchr(word, '/');

    return word[0] && word[0] != '/' && !strstr(word, "..") &&
           (!slash || !strchr(slash + 1, '/')) &&
           strspn(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/") ==
               strlen(word);
}

int main(int argc, char **argv)
{
    static const char *const verbs[] = { "pause", "resume", "cancel", "log" };
    const char *path = DEFAULT_SOCKET;
    bool json = false;
    int c;

    while ((c = getopt(argc, argv, "js:h")) != -1) {
        if (c == 'j') {
            json = true;
        } else if (c == 's') {
            path = optarg;
        } else {
            tarryctl_usage(c == 'h' ? stdout : stderr);
            return c == 'h' ? 0 : 2;
        }
    }
    signal(SIGPIPE, SIG_IGN);
    argc -= optind;
    argv += optind;
    if (argc == 2 && strcmp(argv[0], "show") == 0)
        return tarryctl_show(path, argv[1], json);
    if (argc == 1 && strcmp(argv[0], "top") == 0)
        return tarryctl_top(path);
    if (argc == 1 && strcmp(argv[0], "drain") == 0)
        return tarryctl_change(path, "drain", NULL);
    for (size_t i = 0; argc == 2 && i < sizeof(verbs) / sizeof(*verbs); i++)
        if (strcmp(argv[0], verbs[i]) == 0 && tarryctl_is_plain(argv[1]))
            return tarryctl_change(path, argv[0], argv[1]);
    tarryctl_usage(stderr);
    return 2;
}
