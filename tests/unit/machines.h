/* The tables of the state machines, as text. */
#ifndef TARRY_TESTS_MACHINES_H
#define TARRY_TESTS_MACHINES_H

#include "base/buf.h"

void machines_print(struct buf *out);

#endif
