/* A connected socket's bytes, in the clear or through TLS: single reads and writes that never
 * block, and what the kernel knows of the connection. Holds no data and calls nobody back: conn
 * does. */
#ifndef TARRY_NET_WIRE_H
#define TARRY_NET_WIRE_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct wire {
    int fd;
    SSL *ssl;         /* NULL: in the clear. Owned; it is freed with the memory around it, not by
                         wire_close() */
    int err_no;       /* of the last failure */
    bool wants_write; /* TLS reads, or shakes hands, once there is room to write */
};

enum wire_error {
    WIRE_E_EOF = -1,
    WIRE_E_RESET = -2,
    WIRE_E_TLS = -3,
    WIRE_E_CERTIFICATE = -4,
    WIRE_E_TRUNCATED = -5, /* TLS ended without close_notify */
    WIRE_E_REFUSED = -6,   /* the peer's alert: it wants a certificate of ours, or another one */
};

/* Bytes read; 0: none now; or an error. */
ssize_t wire_read(struct wire *w, void *p, size_t n);

/* Decrypted bytes are left that make no descriptor readable. */
bool wire_has_pending(const struct wire *w);

/* Bytes taken; 0: no room now; or WIRE_E_RESET. */
ssize_t wire_write(struct wire *w, const void *p, size_t n);

/* 1: done; 0: not yet; or an error. */
int wire_handshake(struct wire *w);

/* Says that no more comes: close_notify where there is TLS, and the half-close of the socket if
 * `socket`. */
void wire_shutdown(struct wire *w, bool socket);

/* Closes the descriptor; `reset`: so that the peer sees it. */
void wire_close(struct wire *w, bool reset);

/* Bytes that the peer has not acknowledged (TCP) or read (unix) yet; 0 if the kernel does not say.
 */
uint64_t wire_waiting(const struct wire *w);

/* Bytes that the peer's TCP has acknowledged since the connection stands; UINT64_MAX if the kernel
 * does not say. */
uint64_t wire_acknowledged(const struct wire *w);

#endif
