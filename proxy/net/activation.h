/* Listening sockets that the process is given when it starts (socket activation, sd_listen_fds(3)).
 * A listener of the same address takes one of these in place of binding its own. They stay open
 * until the end: whoever gave them keeps them too, and clients wait there while Tarry is restarted.
 */
#ifndef TARRY_NET_ACTIVATION_H
#define TARRY_NET_ACTIVATION_H

#include <sys/socket.h>

/* Takes the descriptors `first` to `first` + `n` - 1 over. What is no listening stream socket is
 * closed, with a line in the log. */
void activation_take(int first, int n);

/* The same for sockets of the process that this one replaces: each belongs to whoever adopts it. */
void activation_take_over(int first, int n);

/* The one of those that listens at this address, which is the caller's now; -1: none. */
int activation_adopt(const struct sockaddr *sa);

/* Closes those of them that nobody has adopted. */
void activation_drop_rest(void);

/* Each socket of activation_take(). */
void activation_each(void (*fn)(void *owner, int fd), void *owner);

/* The one that listens at this address, which stays ours; -1: none. */
int activation_find(const struct sockaddr *sa);

/* A line in the log for each that nobody has asked for. */
void activation_warn(void);

/* Closes them all. */
void activation_release(void);

#endif
