/* Reading of files that a conf names: the conf's own parts, certificates, keys, secrets. All of it
 * goes through one opener, which the process may replace: one that has given up its privileges
 * still has to read keys when the conf is loaded again. */
#ifndef TARRY_CONF_FILE_H
#define TARRY_CONF_FILE_H

#include <stdbool.h>
#include <stddef.h>

/* Opens `path` for reading, close-on-exec; `flags`: O_NONBLOCK or 0. The descriptor, or -1 with
 * errno. */
typedef int file_open_fn(void *owner, const char *path, int flags);

/* From now on files are opened by `open`; NULL: by the process itself, as at the start. */
void file_set_opener(file_open_fn *open, void *owner);

/* By the opener in force. The descriptor is the caller's; -1 with errno. */
int file_open(const char *path, int flags);

/* More than any certificate bundle has. */
enum { FILE_CONTENT_MAX = 16 << 20 };

/* What is in a file, with a NUL behind it that does not count. */
struct file_content {
    char *p;
    size_t n;
};

/* Reads a regular file of at most `max` bytes (others could block or never end). False with one
 * line in `why`; otherwise ended with file_forget(). */
bool file_read(const char *path, size_t max, struct file_content *out, char *why, size_t whylen);

/* Overwrites the bytes and frees them: they may be a key. */
void file_forget(struct file_content *c);

#endif
