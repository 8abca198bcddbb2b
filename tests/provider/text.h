/* Growing bytes, and the few ways in which the stand-in writes them: plain, formatted, as a JSON
 * string. Running out of memory ends the program: it serves tests, which want to know. */
#ifndef PROVIDER_TEXT_H
#define PROVIDER_TEXT_H

#include <stddef.h>

struct text {
    char *p; /* always ended by a zero byte that `n` does not count, or NULL */
    size_t n, room;
};

/* What bytes of 0x80 and above mean when they become a JSON string. In UTF-8 a wrong byte becomes
 * U+FFFD. */
enum text_charset { TEXT_UTF8, TEXT_LATIN1 };

void *text_alloc(size_t n); /* zeroed; never NULL */
char *text_copy(const char *p, size_t n);

void text_free(struct text *t);
/* Room for `n` more bytes at the end, which the caller fills and then adds to t->n. */
char *text_reserve(struct text *t, size_t n);
void text_add(struct text *t, const void *p, size_t n);
void text_puts(struct text *t, const char *s);
void text_printf(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* With the quotes. */
void text_json(struct text *t, const char *p, size_t n, enum text_charset charset);
void text_json_str(struct text *t, const char *s);
void text_hex(struct text *t, const unsigned char *p, size_t n);
void text_base64(struct text *t, const unsigned char *p, size_t n);

/* The longest start of `p` that has at most `most` bytes and cuts no UTF-8 character. */
size_t text_utf8_cut(const char *p, size_t n, size_t most);

#endif
