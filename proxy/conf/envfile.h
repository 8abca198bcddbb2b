/* The file that env_file names: values for ${NAME} in the conf, one NAME=value a line, as systemd's
 * EnvironmentFile= takes it (systemd.exec(5)): blank lines and those that begin with # or ; are
 * comments, a value may stand in single or double quotes, and "export " may stand before the name.
 * Nothing is expanded inside. */
#ifndef TARRY_CONF_ENVFILE_H
#define TARRY_CONF_ENVFILE_H

#include "conf/token.h"

/* Adds its variables to `c`. Mistakes are reported at `at`, or at the line of the file. */
void envfile_read(struct token_context *c, const char *path, struct place at);

#endif
