#ifndef TARRY_BENCH_SOCK_H
#define TARRY_BENCH_SOCK_H

#include <stddef.h>
#include <sys/socket.h>

/* Socket addresses as the tools of this folder take them on the command line: HOST:PORT, [V6]:PORT
 * or unix:PATH. */
struct sock_addr {
    struct sockaddr_storage ss;
    socklen_t len;
};

/* Reads `text`. 0, or -1 with a word about it on standard error. Names are looked up, which may
 * block: for start-up. */
int sock_parse(const char *text, struct sock_addr *out);

/* A listening, non-blocking socket, or -1 with a word on standard error. A stale unix socket file
 * is replaced. */
int sock_listen(const struct sock_addr *addr);

/* Begins to connect. The descriptor, non-blocking and perhaps not yet connected, or -1 with errno.
 */
int sock_connect(const struct sock_addr *addr);

/* Where `fd` listens, in the form that sock_parse() reads; tells the port that was picked for port
 * 0. */
void sock_describe(int fd, char *buf, size_t n);

/* As many descriptors as this process may have. The limit that is then in force. */
size_t sock_raise_limit(void);

#endif
