/* Closes inherited descriptors. */
#ifndef TARRY_BASE_CLOSEFROM_H
#define TARRY_BASE_CLOSEFROM_H

/* Closes `first` and every descriptor above it. Works on kernels without close_range(2) too, and
 * without /proc. */
void close_from(int first);

#endif
