/* Addresses and sockets for the bench tools. */
#include "sock.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

static int parse_unix(const char *path, struct sock_addr *out)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&out->ss;

    if (*path == '\0' || strlen(path) >= sizeof(un->sun_path)) {
        fprintf(stderr, "the path of a unix socket has 1 to %zu bytes: \"%s\"\n",
            sizeof(un->sun_path) - 1, path);
        return -1;
    }
    un->sun_family = AF_UNIX;
    strcpy(un->sun_path, path);
    out->len = sizeof(*un);
    return 0;
}

int sock_parse(const char *text, struct sock_addr *out)
{
    const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
    struct addrinfo *found = NULL;
    char host[256];
    const char *colon = strrchr(text, ':');
    size_t n;
    int err;

    memset(out, 0, sizeof(*out));
    if (strncmp(text, "unix:", 5) == 0)
        return parse_unix(text + 5, out);
    if (colon == NULL || colon == text || colon[1] == '\0') {
        fprintf(stderr, "an address is HOST:PORT, [V6]:PORT or unix:PATH, not \"%s\"\n", text);
        return -1;
    }
    n = (size_t)(colon - text);
    if (text[0] == '[' && text[n - 1] == ']') {
        text++;
        n -= 2;
    }
    if (n >= sizeof(host)) {
        fprintf(stderr, "the host's name is too long: \"%s\"\n", text);
        return -1;
    }
    memcpy(host, text, n);
    host[n] = '\0';
    err = getaddrinfo(host, colon + 1, &hints, &found);
    if (err != 0) {
        fprintf(stderr, "cannot look up \"%s\": %s\n", text, gai_strerror(err));
        return -1;
    }
    memcpy(&out->ss, found->ai_addr, found->ai_addrlen);
    out->len = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

int sock_listen(const struct sock_addr *addr)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)&addr->ss;
    int fd = socket(addr->ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;

    if (fd == -1) {
        perror("cannot make a socket");
        return -1;
    }
    if (addr->ss.ss_family == AF_UNIX)
        unlink(un->sun_path);
    else
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (const struct sockaddr *)&addr->ss, addr->len) == -1 || listen(fd, 4096) == -1) {
        perror("cannot listen");
        close(fd);
        return -1;
    }
    return fd;
}

int sock_connect(const struct sock_addr *addr)
{
    int fd = socket(addr->ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    int err;

    if (fd == -1)
        return -1;
    if (addr->ss.ss_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(fd, (const struct sockaddr *)&addr->ss, addr->len) == -1 && errno != EINPROGRESS) {
        err = errno;
        close(fd);
        errno = err;
        return -1;
    }
    return fd;
}

void sock_describe(int fd, char *buf, size_t n)
{
    struct sock_addr a = { .len = sizeof(a.ss) };
    char host[NI_MAXHOST] = "?", port[NI_MAXSERV] = "?";

    getsockname(fd, (struct sockaddr *)&a.ss, &a.len);
    if (a.ss.ss_family == AF_UNIX) {
        snprintf(buf, n, "unix:%s", ((struct sockaddr_un *)&a.ss)->sun_path);
        return;
    }
    getnameinfo((struct sockaddr *)&a.ss, a.len, host, sizeof(host), port, sizeof(port),
        NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(buf, n, a.ss.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

size_t sock_raise_limit(void)
{
    struct rlimit lim;

    if (getrlimit(RLIMIT_NOFILE, &lim) == -1)
        return 1024;
    if (lim.rlim_cur < lim.rlim_max) {
        lim.rlim_cur = lim.rlim_max;
        setrlimit(RLIMIT_NOFILE, &lim);
        getrlimit(RLIMIT_NOFILE, &lim);
    }
    return lim.rlim_cur == RLIM_INFINITY ? (size_t)1 << 30 : (size_t)lim.rlim_cur;
}
