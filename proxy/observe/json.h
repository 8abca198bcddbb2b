/* Pieces of JSON text. */
#ifndef TARRY_OBSERVE_JSON_H
#define TARRY_OBSERVE_JSON_H

#include "base/buf.h"
#include "base/str.h"

/* A string with its quotes; octets outside printable ASCII become \u00NN, so the text is always
 * valid. */
void json_string(struct buf *b, struct str s);

#endif
