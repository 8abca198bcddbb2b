/* Files that a conf names: its own parts, certificates, keys, secrets, logs, temporary files. All
 * are opened by one opener, which the process may replace: one that has given up its privileges
 * still has to read keys when the conf is loaded again. */
#ifndef TARRY_CONF_FILE_H
#define TARRY_CONF_FILE_H

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/str.h"

/* Flags for opening a file other than for reading, which uses 0 or O_NONBLOCK. */
enum {
    FILE_APPEND = O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, /* a log (or a pipe in its place,
                                     which must have a reader); made for its owner and group */
    FILE_NAMELESS = O_RDWR | O_TMPFILE,                       /* `path` is the folder */
};

/* Opens `path`, close-on-exec. The descriptor, or -1 with errno. */
typedef int file_open_fn(void *owner, const char *path, int flags);

/* Sets the function that opens files; NULL: the process opens them itself, as at the start. */
void file_set_opener(file_open_fn *open, void *owner);

/* By the opener in force. The descriptor is the caller's; -1 with errno. */
int file_open(const char *path, int flags);

/* Larger than any certificate bundle. */
enum { FILE_CONTENT_MAX = 16 << 20 };

/* The content of a file, with a NUL behind it that is not counted. */
struct file_content {
    char *p;
    size_t n;
};

/* Reads a regular file of at most `max` bytes (others could block or never end). False with one
 * line in `why`; otherwise ended with file_forget(). */
bool file_read(const char *path, size_t max, struct file_content *out, char *why, size_t whylen);

/* Overwrites the bytes and frees them: they may be a key. */
void file_forget(struct file_content *c);

/* Makes `name` a virtual file with the content `text`; neither is copied. For a conf that comes
 * from the command line. */
void file_set_virtual(const char *name, const char *text);

/* `path` as seen from the conf file `file`: unchanged if it is absolute or empty, otherwise in the
 * folder of `file`. In `a`; p is NULL if there is no memory. */
struct str file_resolve(struct arena *a, const char *file, struct str path);

#endif
