/* Ends large temporary files a slice a time: the kernel gives their pages and blocks back within
 * the call, and a gigabyte takes it a tenth of a second or more. */
#ifndef TARRY_HTTP_FILEREAPER_H
#define TARRY_HTTP_FILEREAPER_H

#include <stddef.h>
#include <stdint.h>

/* Takes over the descriptor of a file without a name that has `size` bytes: shortens it turn by
 * turn and then closes it. A small one is closed at once, and so is every one if there is no
 * memory. */
void filereaper_take(int fd, uint64_t size);

/* How many files are still open. */
size_t filereaper_count(void);

#endif
