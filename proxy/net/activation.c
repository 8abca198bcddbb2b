/* Sockets of the service manager, kept in a short list. */
#include "net/activation.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/addr.h"
#include "observe/log.h"

struct activation_socket {
    struct activation_socket *next;
    int fd;
    bool wanted;
    struct sockaddr_storage sa;
};

/* Of the service manager; of the process that this one replaces. */
static struct activation_socket *all, *rest;

static bool activation_is_same(const struct sockaddr *a, const struct sockaddr *b)
{
    struct addr one, other;

    if (a->sa_family != b->sa_family)
        return false;
    if (a->sa_family == AF_UNIX)
        return strcmp(((const struct sockaddr_un *)(const void *)a)->sun_path,
                   ((const struct sockaddr_un *)(const void *)b)->sun_path) == 0;
    one = addr_of(a);
    other = addr_of(b);
    return one.port == other.port && memcmp(one.ip, other.ip, sizeof(one.ip)) == 0;
}

/* A path that was bound relative to the current folder, which is still the starter's: the conf
 * names whole paths. */
static void activation_resolve(struct sockaddr_storage *sa)
{
    struct sockaddr_un *un = (struct sockaddr_un *)(void *)sa;
    char *real;
    size_t n;

    if (sa->ss_family != AF_UNIX || un->sun_path[0] == '/' || un->sun_path[0] == 0)
        return;
    real = realpath(un->sun_path, NULL);
    n = real ? strlen(real) + 1 : 0;
    if (n > 0 && n <= sizeof(un->sun_path))
        memcpy(un->sun_path, real, n);
    free(real);
}

/* Whether it is a stream socket that listens. Its address goes to *sa, which is zeroed. */
static bool activation_listens(int fd, struct sockaddr_storage *sa)
{
    socklen_t n = sizeof(*sa) - 1, one = sizeof(int), two = sizeof(int);
    int is = 0, type = 0;

    return getsockname(fd, (struct sockaddr *)sa, &n) == 0 &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is, &one) == 0 && is &&
           getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &two) == 0 && type == SOCK_STREAM;
}

static void activation_take_to(struct activation_socket **list, int first, int n)
{
    for (int fd = first; fd < first + n; fd++) {
        struct activation_socket *i = calloc(1, sizeof(*i));

        if (!i || !activation_listens(fd, &i->sa)) {
            log_warn(
                NULL, "descriptor %d of the service manager is no listening socket: not used", fd);
            free(i);
            close(fd);
            continue;
        }
        activation_resolve(&i->sa);
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        i->fd = fd;
        i->next = *list;
        *list = i;
    }
}

void activation_take(int first, int n)
{
    activation_take_to(&all, first, n);
}

void activation_take_over(int first, int n)
{
    activation_take_to(&rest, first, n);
}

int activation_adopt(const struct sockaddr *sa)
{
    for (struct activation_socket **at = &rest; *at; at = &(*at)->next) {
        struct activation_socket *i = *at;
        int fd = i->fd;

        if (!activation_is_same((const struct sockaddr *)&i->sa, sa))
            continue;
        *at = i->next;
        free(i);
        return fd;
    }
    return -1;
}

void activation_each(void (*fn)(void *owner, int fd), void *owner)
{
    for (const struct activation_socket *i = all; i; i = i->next)
        fn(owner, i->fd);
}

int activation_find(const struct sockaddr *sa)
{
    for (struct activation_socket *i = all; i; i = i->next) {
        if (!activation_is_same((const struct sockaddr *)&i->sa, sa))
            continue;
        i->wanted = true;
        return i->fd;
    }
    return -1;
}

void activation_warn(void)
{
    char text[ADDR_TEXT_MAX + sizeof(struct sockaddr_un)];

    for (const struct activation_socket *i = all; i; i = i->next)
        if (!i->wanted)
            log_warn(NULL,
                "the service manager has a socket for %s, but the conf has no such "
                "listen section",
                addr_text((const struct sockaddr *)&i->sa, text, sizeof(text)));
}

static void activation_close_list(struct activation_socket **list)
{
    while (*list) {
        struct activation_socket *i = *list;

        *list = i->next;
        close(i->fd);
        free(i);
    }
}

void activation_drop_rest(void)
{
    activation_close_list(&rest);
}

void activation_release(void)
{
    activation_close_list(&all);
    activation_close_list(&rest);
}
