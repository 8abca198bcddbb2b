/* Absolute URLs of enclosed requests and origins, and paths as routes see them. RFC 3986, strictly:
 * nothing is repaired. */
#ifndef TARRY_BASE_URL_H
#define TARRY_BASE_URL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/str.h"

struct url {
    struct str scheme; /* as written */
    struct str host;   /* as written, without the brackets of an IPv6 literal */
    bool ipv6;         /* the host was in brackets */
    uint16_t port;     /* 0: none was written */
    struct str
        target; /* path and query: origin-form, or "?query" if there was no path; "/" if neither */
};

enum url_error {
    URL_E_SCHEME = -1,   /* no "scheme://" */
    URL_E_USERINFO = -2, /* user@host */
    URL_E_HOST = -3,     /* empty, or with a character that is not allowed in a host */
    URL_E_PORT = -4,     /* not a number from 1 to 65535 */
    URL_E_TARGET = -5,   /* a character that is not allowed in a path or query */
    URL_E_FRAGMENT = -6, /* a "#" */
};

/* Splits `scheme://host[:port][/path][?query]`. The spans borrow from `s`. 0, or an enum url_error.
 */
int url_parse(struct str s, struct url *out);
const char *url_strerror(int err);

/* The same for a request's target in absolute-form: the host may have any character of a registered
 * name in RFC 3986, except the percent sign and the comma, and the port may be empty. */
int url_parse_absolute(struct str s, struct url *out);

/* host[:port] as in a Host field, by the rules of url_parse_absolute(). 0 or one of the errors
 * above. Empty text gives URL_E_HOST. */
int url_parse_authority(struct str s, struct str *host, bool *ipv6, uint16_t *port);

/* The port of the scheme: 443 for https, 80 for http, otherwise 0. */
uint16_t url_default_port(struct str scheme);

/* Whether `s` is a target in origin-form: "/" and the characters that RFC 3986 allows in a path and
 * a query. Percent signs need not be followed by two hex digits: such targets exist in the wild and
 * are forwarded as they came. */
bool url_is_origin_form(struct str s);

/* The path of an origin-form target, percent-decoded once, with "." and ".." segments, doubled
 * slashes and ";parameters" of segments removed, in `a`: routes are matched against it. False if it
 * climbs above the root, holds a NUL (encoded or not) or an overlong UTF-8 form, or there is no
 * memory. */
bool url_normalise_path(struct arena *a, struct str target, struct str *path);

/* The path percent-decoded once and otherwise unchanged, as a backend sees it that resolves
 * nothing. False if there is no memory. */
bool url_decode_path(struct arena *a, struct str target, struct str *path);

/* Whether services take a key from the query parameter of that name: key, api_key, access_token and
 * the like. */
bool url_is_credential(struct str parameter);

/* The target with "***" in place of the keys in its query, for logs and pages: itself if it has
 * none, otherwise a copy in `a`. Without memory: the path alone. */
struct str url_hide_keys(struct arena *a, struct str target);

#endif
