/* The table that all processes share about upstreams: rows of 16 words, found by a hash of their
 * name. Bounded; a row that no process has asked for within `keep_ms` is forgotten. It outlives
 * reloads, a process that is replaced, and SIGUSR2.
 *
 * The hash has a key that is random and stays in the table: a row tells nobody of which key of a
 * service it is. */
#ifndef TARRY_UPSTREAM_LEDGER_H
#define TARRY_UPSTREAM_LEDGER_H

#include <stddef.h>
#include <stdint.h>

#include "base/siphash.h"

enum { LEDGER_WORDS = 16 };

/* Before the first fork. Without it the process has a small table for itself. 0, or -1 with errno.
 */
int ledger_open(size_t rows, uint64_t keep_ms);

/* A hash with the table's key, for names of rows: add fields and end it. */
struct siphash ledger_hash(void);

/* A row as one process knows it. Zeroed at first. */
struct ledger_place {
    uint64_t id; /* the hash of its name */
    uint64_t looked_ms;
    uint64_t *words;
    uint32_t row;
    uint64_t own[LEDGER_WORDS]; /* where the table is full */
};

/* The words of the row, all zero at first. Good until the turn ends. Other processes change them at
 * any time: use atomic operations. If there is no room in the table, they are of this process
 * alone, and an error is logged. */
uint64_t *ledger_words(struct ledger_place *p, uint64_t now_ms);

/* Calls `fn` with the words of each row in use. */
void ledger_each(void (*fn)(void *owner, uint64_t *words), void *owner);

/* Rows in use, and how many there may be. */
struct ledger_counts {
    size_t used, all;
};
struct ledger_counts ledger_counts(void);

#endif
