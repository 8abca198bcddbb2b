/* The list of mistakes in a conf, from all steps of a load. Each step adds its mistakes in its own
 * order; at the end they are sorted in the order of the file. */
#ifndef TARRY_CONF_MISTAKE_H
#define TARRY_CONF_MISTAKE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/str.h"
#include "conf/errors.h"

/* The place of a word in the conf. `seq` counts the words in reading order, with include files at
 * their place. */
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

/* A longer list is cut, because nobody would read it. */
enum { MISTAKES_MAX = 1000 };

/* Adds "FILE:LINE: " and the text, control octets replaced. */
void mistake_add(struct mistakes *m, struct place at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for a warning, which does not prevent the use of the conf: "FILE:LINE: warning: " and
 * the text. */
void mistake_warn(struct mistakes *m, struct place at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Moves all to `out` in the order of the file. If memory ran out, `out` says only that. */
void mistakes_hand_over(struct mistakes *m, struct conf_errors *out);

void mistakes_release(struct mistakes *m);

/* `s` in double quotes as a message may show it: cut at 80 bytes, and without control octets, which
 * could manipulate a terminal. In `a`; "" if there is no memory. */
const char *mistake_quote(struct arena *a, struct str s);

#endif
