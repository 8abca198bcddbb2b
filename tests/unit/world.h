/* For tests of what lives on the loop: a loop that the test steps turn by turn, and the other ends
 * of its sockets, which the test plays itself.
 *
 *     WORLD_UNTIL(peer_has(&p, "HTTP/1.1 200"));      turns until it holds; fails the test if it
 * never does world_settle();                                 all that is on its way has arrived:
 * what has not happened now does not
 */
#ifndef TARRY_TESTS_WORLD_H
#define TARRY_TESTS_WORLD_H

#include <check.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "net/loop.h"

/* For tcase_add_checked_fixture(): the loop and a folder (conffile.h); at the end no descriptor may
 * be left open. */
void world_open(void);
void world_close(void);

/* One turn of the loop; sleeps a few milliseconds at most. */
void world_turn(void);
void world_settle(void);

/* Far above what a slow machine needs under a sanitizer; TARRY_UNIT_GIVE_UP has other seconds, for
 * those who work on a test that fails. */
uint64_t world_give_up_us(void);

#define WORLD_UNTIL(cond)                                                                          \
    do {                                                                                           \
        uint64_t give_up_us_ = world_give_up_us();                                                 \
                                                                                                   \
        while (!(cond)) {                                                                          \
            ck_assert_msg(loop_precise_us() < give_up_us_, "never came: %s", #cond);               \
            world_turn();                                                                          \
        }                                                                                          \
    } while (0)

/* The other end of a connection. */
struct peer {
    int fd;        /* -1: closed */
    struct buf in; /* what has come and not been taken */
    bool eof, reset;
};

/* A connected pair of unix sockets: one end is the peer's, the other (non-blocking) is returned. */
int peer_pair(struct peer *p);

/* The same over TCP on the loopback interface. */
int peer_tcp_pair(struct peer *p);

/* A listening socket: on a file of the folder, or on a free port of 127.0.0.1. The caller closes
 * it. */
int peer_listen_unix(const char *name, int backlog);
int peer_listen_tcp(unsigned *port);

/* Takes one that has connected. False if nobody has. */
bool peer_accept(struct peer *p, int listening);

/* All of it, or the test fails. Text, or `n` bytes. */
void peer_send(struct peer *p, const char *text);
void peer_send_bytes(struct peer *p, const void *bytes, size_t n);

/* As many as the socket takes now. */
size_t peer_send_some(struct peer *p, const void *bytes, size_t n);

/* Reads what is there. Whether `text` is in it; how many bytes have come; whether the connection
 * has ended. */
bool peer_has(struct peer *p, const char *text);
size_t peer_got(struct peer *p);
bool peer_ended(struct peer *p);

/* What has come, as a string good until the next call; and it is taken. */
const char *peer_take(struct peer *p);

/* At most `n` bytes are read off the socket and forgotten; how many. */
size_t peer_skip(struct peer *p, size_t n);

void peer_finish(struct peer *p); /* no more will be sent; still reads */
void peer_close(struct peer *p);
void peer_reset(struct peer *p); /* TCP only */

#endif
