/* A borrowed span of bytes: a pointer and a length, no terminating NUL, no ownership. A span that
 * must outlive the current event is copied (arena_copy).
 *
 * base/ is the lowest room: strings, buffers, arenas, lists, numbers, URLs and random numbers.
 * Nothing in it does I/O, logs, or depends on the purpose of Tarry. */
#ifndef TARRY_BASE_STR_H
#define TARRY_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct str {
    const char *p;
    size_t n;
};

/* A span over a string literal. STR_INIT is its form for static tables. */
#define STR(lit) ((struct str){ "" lit, sizeof(lit) - 1 })
#define STR_INIT(lit)                                                                              \
    {                                                                                              \
        "" lit, sizeof(lit) - 1                                                                    \
    }

/* For printf: printf(STR_FMT, STR_ARG(s)). */
#define STR_FMT "%.*s"
#define STR_ARG(s) (int)(s).n, (s).p ? (s).p : ""

static inline struct str str_make(const char *p, size_t n)
{
    return (struct str){ p, n };
}

static inline struct str str_of(const char *cstr)
{
    return (struct str){ cstr, cstr ? strlen(cstr) : 0 };
}

static inline bool str_eq(struct str a, struct str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool str_starts_with(struct str s, struct str prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

/* ASCII only, whatever the locale. */
static inline char str_lower_char(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

bool str_eq_nocase(struct str a, struct str b);
bool str_starts_with_nocase(struct str s, struct str prefix);

/* Without the spaces and tabs around it (OWS, RFC 9110 5.6.3). */
struct str str_trim(struct str s);

/* Splits at the first `sep`. False, with `head` all of `s` and `tail` empty, if there is none. */
bool str_cut(struct str s, char sep, struct str *head, struct str *tail);

/* Takes the next element of a comma-separated list (RFC 9110 5.6.1) off `rest`, trimmed; empty
 * elements are skipped. False at the end. Quoted strings are not recognised: for lists of tokens
 * only. */
bool str_next_element(struct str *rest, struct str *element);

/* The index of the first `c`, or -1. */
ptrdiff_t str_find_char(struct str s, char c);

#endif
