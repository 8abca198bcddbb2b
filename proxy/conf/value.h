/* The forms of single values: addresses, networks, hosts, origins, header fields. Nothing here
 * knows files or other options.
 *
 * A function returns true, or false with what is wrong, and what would be right, in `why`. Spans of
 * results borrow from the text or live in `a`. */
#ifndef TARRY_CONF_VALUE_H
#define TARRY_CONF_VALUE_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/str.h"
#include "conf/snapshot.h"

enum { VALUE_WHY_MAX = 256 };

/* HOST:PORT with an IPv4 address or "localhost" (127.0.0.1), [V6]:PORT or unix:PATH. `file` is the
 * conf file in whose folder a relative PATH is. */
bool value_address(struct arena *a, const char *file, struct str text, struct addr_conf *out,
    char why[VALUE_WHY_MAX]);

/* The same for an address to listen at: *:PORT is [::]:PORT. */
bool value_listen_address(struct arena *a, const char *file, struct str text, struct addr_conf *out,
    char why[VALUE_WHY_MAX]);

/* The same for a server's address: HOST may be a name, which goes to out->host. */
bool value_server_address(struct arena *a, const char *file, struct str text, struct addr_conf *out,
    char why[VALUE_WHY_MAX]);

/* ADDRESS/BITS, ADDRESS, or "unix". */
bool value_cidr(struct arena *a, struct str text, struct cidr_conf *out, char why[VALUE_WHY_MAX]);

/* A host without port, to lower case. IPv6 literals in brackets, which are taken off. */
bool value_host(struct arena *a, struct str text, struct str *out, char why[VALUE_WHY_MAX]);

/* SCHEME://HOST[:PORT]. Fills origin, tls, host, ipv6 and port. */
bool value_origin(
    struct arena *a, struct str text, struct endpoint_conf *out, char why[VALUE_WHY_MAX]);

/* The value of a field. `why` never shows it. */
bool value_hidden(struct arena *a, struct str text, struct str *out, char why[VALUE_WHY_MAX]);

/* Whether plain http to that host is allowed without `insecure`: loopback, link-local or private
 * addresses, or "localhost". Other names never: others control what they resolve to.
 */
bool value_host_is_private(struct str host);

/* "Name: value" that a call may carry: not one that frames the message or belongs to the
 * connection; "?Name: value" sets unless_present. `why` never shows the value. */
bool value_header(
    struct arena *a, struct str text, struct header_conf *out, char why[VALUE_WHY_MAX]);

/* Whether services take a key from a request field of that name. */
bool value_is_credential(struct str name);

/* A status that a response may have, 400 to 599. */
/* "NAME: N" */
bool value_weight(
    struct arena *a, struct str text, struct weight_conf *out, char why[VALUE_WHY_MAX]);

bool value_status(struct str text, uint16_t *out, char why[VALUE_WHY_MAX]);

/* Text without control characters and quotes. */
bool value_text(struct arena *a, struct str text, struct str *out, char why[VALUE_WHY_MAX]);

/* A path that stands before others: "/openai", without a slash at its end. Empty: none. */
bool value_path(struct arena *a, struct str text, struct str *out, char why[VALUE_WHY_MAX]);

/* "header:NAME", "field:PATH", "prompt", "address", "credential" or "tenant". Empty: SELECTOR_NONE.
 */
bool value_selector(
    struct arena *a, struct str text, struct selector_conf *out, char why[VALUE_WHY_MAX]);

/* The name of a response field that may be passed on, to lower case. */
bool value_field_name(struct arena *a, struct str text, struct str *out, char why[VALUE_WHY_MAX]);

/* A media type without parameters, to lower case; of "text" and "/" with a star, what stands before
 * the star. */
bool value_media_type(struct arena *a, struct str text, struct str *out, char why[VALUE_WHY_MAX]);

/* "stderr", "syslog" or the path of a file, relative to the folder of `file`. */
bool value_target(struct arena *a, const char *file, struct str text, struct log_target *out,
    char why[VALUE_WHY_MAX]);

/* Octal, as chmod(1) has it: at most 0777. */
bool value_mode(struct str text, unsigned *out, char why[VALUE_WHY_MAX]);

/* A route's prefix: a path in the form in which requests' paths are compared. */
bool value_prefix(struct arena *a, struct str text, struct str *out, char why[VALUE_WHY_MAX]);

/* A name of a pool or an upstream: letters, digits, ".", "_" and "-", at most 64 of them. */
bool value_name(struct arena *a, struct str text, struct str *out, char why[VALUE_WHY_MAX]);

/* IPv6 in its shortest form, other hosts in lower case. p is NULL if there is no memory. */
struct str value_canonical_host(struct arena *a, struct str host, bool ipv6);

#endif
