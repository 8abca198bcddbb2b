/* A listening socket. Belongs to whoever opened it; survives reloads as long as its address
 * stays in the conf: the descriptor stays open, so that not one connection is refused. */
#ifndef TARRY_NET_LISTENER_H
#define TARRY_NET_LISTENER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "base/list.h"
#include "base/str.h"
#include "conf/snapshot.h"

struct listener;

/* A connection was accepted: `fd` (non-blocking, close-on-exec) is the callee's now. */
typedef void listener_accept_fn(
    void *owner, struct listener *l, int fd, const struct sockaddr *peer);

/* Whether one more connection may be accepted now; if not, the listener looks again a moment later.
 * `waits`: there surely is one, for which room may be made. */
typedef bool listener_may_accept_fn(void *owner, bool waits);

/* Binds addresses from now on: as bind(2), for a process that may not do it by itself. NULL:
 * bind(2).
 */
typedef int listener_bind_fn(int fd, const struct sockaddr *sa, socklen_t salen);
void listener_set_bind(listener_bind_fn *fn);

/* Binds and listens; accepts nothing until listener_start(). A stale unix socket file (nobody
 * listens behind it) is replaced. `many`: several processes serve the address, a TCP one by
 * SO_REUSEPORT, a unix socket by what listener_share() has bound. NULL with one line in `why`.
 * Its text is copied. Where activation.h has a socket of that address, that one is used. */
struct listener *listener_open(
    const struct addr_conf *a, unsigned backlog, bool many, char *why, size_t whylen);

/* The group of unix sockets whose section names none; -1: as they come. */
void listener_set_group(gid_t gid);

/* In a master, before it forks: binds a socket for all its children. `many`: there are several,
 * each of which binds TCP addresses by itself (nothing is done for those). 0, or -1 with one line
 * in `why`. */
int listener_share(
    const struct addr_conf *a, unsigned backlog, bool many, char *why, size_t whylen);

void listener_each_shared(void (*fn)(void *owner, int fd), void *owner);

/* Closes what was shared, as far as this process has it: all, or what `except` does not name any
 * more. Clients must not connect to a socket that nobody accepts from. The master, whose files they
 * are, removes the files of unix sockets. */
void listener_unshare(const struct conf *except, bool unlink_files);

void listener_start(struct listener *l, listener_accept_fn *on_accept,
    listener_may_accept_fn *may_accept, void *owner);

/* What was given at the open: the key by which it is found again. */
struct str listener_text(const struct listener *l);

/* How many connections may wait to be accepted, from now on. */
void listener_set_backlog(struct listener *l, unsigned backlog);

/* Of a listener that was started: accepts the connections that wait in the backlog already (the
 * kernel would reset them), some each turn, then closes and calls on_closed() with the owner of
 * listener_start(); never from within. A unix socket's file is removed at once if `unlink_file`. */
void listener_drain(
    struct listener *l, bool unlink_file, void (*on_closed)(void *owner, struct listener *l));

/* Closes at once, a listener that drains as well. Idempotent. */
void listener_close(struct listener *l, bool unlink_file);

/* A slot for the owner's own data. */
void listener_set_data(struct listener *l, void *data);
void *listener_data(const struct listener *l);

#endif
