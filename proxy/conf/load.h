/* From the file to a checked snapshot. */
#ifndef TARRY_CONF_LOAD_H
#define TARRY_CONF_LOAD_H

#include "conf/errors.h"
#include "conf/snapshot.h"

/* Reads `path` and all that it names (include files, secret files, certificates, ca_file). Returns
 * a snapshot with one reference, or NULL with at least one error in `errors`. All mistakes are
 * reported, not only the first. Touches nothing else. `errors` is initialised here and ended by the
 * caller with conf_errors_release(). */
struct conf *conf_load(const char *path, struct conf_errors *errors);

/* The same; if the conf is good, `look` sees the draft too, with what the file sets and where. */
struct draft;
typedef void conf_look_fn(void *owner, const struct draft *d);

struct conf *conf_load_and_look(
    const char *path, struct conf_errors *errors, conf_look_fn *look, void *owner);

#endif
