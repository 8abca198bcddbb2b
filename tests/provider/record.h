/* One JSON line for each request, for tests to read while the stand-in runs. */
#ifndef PROVIDER_RECORD_H
#define PROVIDER_RECORD_H

struct job;

/* Writes and flushes the line, if lines are wanted. `end` is how it ended, in a word; `why` is more
 * of that, or NULL. */
void record_write(const struct job *job, const char *end, const char *why);

#endif
