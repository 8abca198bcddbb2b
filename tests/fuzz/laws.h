/* What a fuzz target asserts. */
#ifndef TARRY_TESTS_LAWS_H
#define TARRY_TESTS_LAWS_H

#include <stdio.h>
#include <stdlib.h>

#define HOLDS(law)                                                                                 \
    do {                                                                                           \
        if (!(law)) {                                                                              \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #law);               \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#endif
