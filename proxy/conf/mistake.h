/* The list of what is wrong with a conf, gathered by all steps of a load. Each step adds what it
 * sees in its own order; at the end they come out in the order of the file. */
#ifndef TARRY_CONF_MISTAKE_H
#define TARRY_CONF_MISTAKE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/str.h"
#include "conf/errors.h"

/* Where a word of the conf stands. `seq` counts the words in the order in which they are read,
 * include files in their place. */
struct place {
    const char *file;
    unsigned line, seq;
};

struct mistake;

struct mistakes {
    struct arena arena;
    struct mistake *list;
    size_t count, room;
    size_t nwarnings; /* of `count` */
    bool no_memory;
};

/* A list longer than this is cut: nobody reads on. */
enum { MISTAKES_MAX = 1000 };

/* Adds "FILE:LINE: " and the text, control octets replaced. */
void mistake_add(struct mistakes *m, struct place at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for something that an operator should know, and that does not keep the conf from being
 * used: "FILE:LINE: warning: " and the text. */
void mistake_warn(struct mistakes *m, struct place at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Moves all to `out` in the order of the file. */
void mistakes_hand_over(struct mistakes *m, struct conf_errors *out);

void mistakes_release(struct mistakes *m);

/* `s` in double quotes as a message may show it: cut at 80 bytes, and without control octets, which
 * could play with a terminal. In `a`; "" if there is no memory. */
const char *mistake_quote(struct arena *a, struct str s);

#endif
