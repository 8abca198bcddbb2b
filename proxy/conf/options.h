/* Every option of the conf file: one table a section, one row an option. The parser, the checks of
 * bounds, the reference page and the man page are made from it. To add an option: a row here, a
 * field in snapshot.h, scripts/make-reference. */
#ifndef TARRY_CONF_OPTIONS_H
#define TARRY_CONF_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

enum opt_section_id {
    SECTION_ROOT,
    SECTION_ACCESS_LOG,
    SECTION_ADMIN,
    SECTION_COMPRESSION,
    SECTION_IDENTITY, /* inside listen */
    SECTION_LISTEN,
    SECTION_LOG,
    SECTION_ROUTE,
    SECTION_TRACING,
    SECTION_UPSTREAM,
    SECTION_ENDPOINT, /* inside upstream */
    SECTION_LIMIT,    /* inside upstream */
    SECTION_WORKERS,
    SECTION_SERVER, /* inside workers */
};
#define OPT_NSECTIONS 14

enum opt_type {
    OPT_NUMBER,    /* unsigned, size_t or uint64_t */
    OPT_SIZE,      /* size_t or uint64_t: bytes */
    OPT_DURATION,  /* uint64_t: milliseconds */
    OPT_BOOL,      /* bool */
    OPT_WORD,      /* an enum: the place in opt.words */
    OPT_FILE,      /* struct str: the path of a file that must be there; empty: none */
    OPT_FOLDER,    /* struct str: the path of a folder in which files can be made */
    OPT_SECRET,    /* struct str: what stands in the file that is named */
    OPT_TARGET,    /* struct log_target */
    OPT_HOST,      /* struct str: a host name, lower case; empty: any */
    OPT_ORIGIN,    /* of struct endpoint_conf, at its `origin`: origin, tls, host, ipv6, port */
    OPT_TEXT,      /* struct str: what may stand in a header field */
    OPT_PATH,      /* struct str: a path without a slash at its end; empty: none */
    OPT_SELECTOR,  /* struct selector_conf */
    OPT_PROXY,     /* struct proxy_conf */
    OPT_HIDDEN,    /* struct str: what may stand in a header field, and is never shown */
    OPT_POOL,      /* const struct pool_conf *: the name of a workers section */
    OPT_UPSTREAM,  /* const struct upstream_conf *: the name of an upstream section */
    OPT_USER,      /* struct str: the name of an account */
    OPT_MODE,      /* unsigned: the permissions of a file, in octal */
    OPT_GROUP,     /* struct str: the name of a group */
    OPT_CIDRS,     /* of struct conf: trusted_proxies */
    OPT_HEADERS,   /* of struct endpoint_conf, at its `set_header`: set_header */
    OPT_STATUSES,  /* of struct upstream_conf: retry_on */
    OPT_WEIGHTS,   /* of struct upstream_conf: tenant_weights */
    OPT_KINDS,     /* unsigned: a bit for each of opt.words */
    OPT_NAMES,     /* of struct upstream_conf: relay_headers */
    OPT_HOSTS,     /* struct hosts_conf */
    OPT_TYPES,     /* of struct compression_conf: types */
    OPT_ENCODINGS, /* of struct compression_conf: encodings; words from opt.words */
};

enum opt_when {
    OPT_LIVE,    /* on reload, for exchanges and connections that begin after it */
    OPT_RESTART, /* when Tarry is started again */
};

struct opt {
    const char *name;
    enum opt_type type;
    size_t offset, width; /* in the section's struct */
    const char *def; /* as it would be written, a list's without braces and quotes; NULL: none, see
                        `required` */
    const char *min, *max; /* of numbers, sizes and durations */
    enum opt_when when;
    const char *help;         /* the manual's sentences */
    const char *const *words; /* of OPT_WORD, OPT_KINDS and OPT_ENCODINGS; ends with NULL */
    bool required;
};

struct opt_section {
    const char *name;    /* "" for the root */
    const char *title;   /* what the title means, for messages and the manual; NULL: it has none */
    const char *example; /* a title, for messages */
    enum opt_section_id parent; /* of the root: the root */
    bool many;                  /* may stand more than once */
    const struct opt *rows;     /* alphabetical */
    size_t nrows;
    const char *help;
};

/* More rows than any section has. */
enum { OPT_ROWS_MAX = 96 };

const struct opt_section *options_section(enum opt_section_id id);

/* The row of that name, or NULL. */
const struct opt *options_find(enum opt_section_id id, struct str name);

/* The section `name` inside `parent`: its id, or -1. */
int options_find_section(enum opt_section_id parent, struct str name);

bool options_is_list(enum opt_type type);

/* A suggestion for a name that is unknown in section `in`: a similar option or section of it
 * (*where == in), or an option or section with exactly this name in another section (*where is that
 * section). NULL: none. */
const char *options_nearest(enum opt_section_id in, struct str name, enum opt_section_id *where);

/* The entry of `words` that is most like `name`, or NULL if none is like it. */
const char *options_nearest_word(const char *const *words, struct str name);

#endif
