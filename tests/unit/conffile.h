/* For tests of confs: a folder of their own with a conf file and what it names. */
#ifndef TARRY_TESTS_CONFFILE_H
#define TARRY_TESTS_CONFFILE_H

#include "conf/load.h"

/* Makes the folder, and removes it with all that is in it: for tcase_add_checked_fixture(). */
void conffile_open(void);
void conffile_close(void);

/* The path of a file in the folder. Good until conffile_close(). */
const char *conffile_path(const char *name);

/* Writes a file; its path. */
const char *conffile_put(const char *name, const char *text);

/* Writes `text` to "t.conf" and loads it. */
struct conf *conffile_load(const char *text, struct conf_errors *errors);

/* The same; the mistakes, if there are any, fail the test. */
struct conf *conffile_must_load(const char *text);

/* Writes a self-signed certificate (NAME.crt) and its key (NAME.key), for no name or for those of
 * `names` as OpenSSL has them: "DNS:a.example,DNS:b.example". */
void conffile_put_certificate(const char *name);
void conffile_put_named_certificate(const char *name, const char *names);

#endif
