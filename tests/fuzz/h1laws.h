/* What must hold of the HTTP/1.1 codec for any bytes. Aborts where it does not. */
#ifndef TARRY_TESTS_H1LAWS_H
#define TARRY_TESTS_H1LAWS_H

#include "http/h1parse.h"

/* Takes `in` as messages of `kind` one after the other, as a connection would; `method` is what the
 * responses answer. Of each:
 *
 * - head and body are the same whether they come at once, byte by byte or in two pieces; no byte
 * behind what has come is read;
 * - a head that was taken holds to its grammar, can be written, and what was written is the same
 * head again. */
void h1laws_check(enum h1_kind kind, struct str method, struct str in);

#endif
