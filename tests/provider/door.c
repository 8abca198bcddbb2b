/* A listening socket. */
#include "door.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "peer.h"
#include "provider.h"

#define ACCEPT_A_TURN 256
#define REST_S 0.05

static int complain(const char *address, const char *what)
{
    fprintf(stderr, "provider: cannot listen on \"%s\": %s\n", address, what);
    return -1;
}

static int bind_unix(struct door *door, const char *address)
{
    struct sockaddr_un sun = { .sun_family = AF_UNIX };
    const char *path = address + 5;
    struct stat st;

    if (strlen(path) >= sizeof sun.sun_path)
        return complain(address, "the path is too long");
    strcpy(sun.sun_path, path);
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(path); /* of an earlier run */
    door->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (door->fd < 0 || bind(door->fd, (struct sockaddr *)&sun, sizeof sun) < 0)
        return complain(address, strerror(errno));
    snprintf(door->address, sizeof door->address, "%s", address);
    return 0;
}

static void name_bound(struct door *door)
{
    struct sockaddr_storage bound;
    socklen_t length = sizeof bound;
    char host[64], port[8];

    getsockname(door->fd, (struct sockaddr *)&bound, &length);
    getnameinfo((struct sockaddr *)&bound, length, host, sizeof host, port, sizeof port,
        NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(
        door->address, sizeof door->address, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

static int bind_tcp(struct door *door, const char *address)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *found;
    const char *colon = strrchr(address, ':'), *host = address;
    size_t n = colon ? (size_t)(colon - address) : 0;
    char name[128];
    int one = 1, error;

    if (!colon || n >= sizeof name)
        return complain(address, "an address is HOST:PORT, [V6]:PORT or unix:PATH");
    if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
        host++;
        n -= 2;
    }
    memcpy(name, host, n);
    name[n] = 0;
    error = getaddrinfo(n ? name : NULL, colon + 1, &hints, &found);
    if (error)
        return complain(address, gai_strerror(error));
    door->fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (door->fd >= 0)
        setsockopt(door->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    error = door->fd < 0 || bind(door->fd, found->ai_addr, found->ai_addrlen) < 0 ? errno : 0;
    freeaddrinfo(found);
    if (error)
        return complain(address, strerror(error));
    name_bound(door);
    return 0;
}

static void on_accept(struct ev_loop *ev, ev_io *w, int revents)
{
    struct door *door = w->data;

    for (int i = 0; i < ACCEPT_A_TURN; i++) {
        int fd = accept4(door->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            peer_accept(door->provider, fd, door->tls);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            ev_io_stop(ev, &door->io);
            ev_timer_set(&door->rest, REST_S, 0.);
            ev_timer_start(ev, &door->rest);
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return;
        }
    }
}

static void on_rested(struct ev_loop *ev, ev_timer *w, int revents)
{
    struct door *door = w->data;

    ev_io_start(ev, &door->io);
}

int door_open(struct door *door, struct provider *provider, const char *address, SSL_CTX *tls)
{
    bool is_unix = strncmp(address, "unix:", 5) == 0;

    *door = (struct door){ .provider = provider, .tls = tls, .fd = -1 };
    if (is_unix ? bind_unix(door, address) : bind_tcp(door, address))
        return -1;
    if (listen(door->fd, 65535) < 0)
        return complain(address, strerror(errno));
    ev_io_init(&door->io, on_accept, door->fd, EV_READ);
    door->io.data = door;
    ev_io_start(provider->loop, &door->io);
    ev_init(&door->rest, on_rested);
    door->rest.data = door;
    return 0;
}

void door_close(struct door *door)
{
    if (door->fd < 0)
        return;
    ev_io_stop(door->provider->loop, &door->io);
    ev_timer_stop(door->provider->loop, &door->rest);
    close(door->fd);
    door->fd = -1;
    if (strncmp(door->address, "unix:", 5) == 0)
        unlink(door->address + 5);
}
