/* The words of a conf file: bare words, strings with their escapes and variables, and signs.
 * Mistakes in them are noted here, and the token is marked, so that the statement around it is read
 * on. */
#ifndef TARRY_CONF_TOKEN_H
#define TARRY_CONF_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/arena.h"
#include "conf/mistake.h"

/* A line of the file that env_file names. In the context's arena; both NUL-terminated. */
struct token_variable {
    struct token_variable *next;
    struct str name, value;
};

/* State that is shared by all files being read. */
struct token_context {
    struct mistakes *mistakes;
    struct token_variable *variables; /* the last one of a name is found first */
    struct arena arena;               /* names of files, texts */
    unsigned seq;                     /* of the next word: struct place */
    bool cut_short;                   /* a comment without end hides the rest of a file */
    bool no_memory;
};

enum token_kind { T_END, T_WORD, T_STRING, T_PUNCTUATION };

struct token {
    enum token_kind kind;
    char c;   /* of T_PUNCTUATION: one of { } ( ) = , or '+' for "+=" */
    bool bad; /* a mistake in it has been noted already */
    struct str text;
    struct place place;
};

/* One file being read, with a look-ahead of two tokens. */
struct token_reader {
    struct token_context *context;
    const struct token_reader *from; /* the file that includes this one; NULL: none */
    dev_t device;
    ino_t inode;
    struct str in;
    size_t pos;
    const char *file;
    unsigned line;
    struct token ahead[2];
    size_t nahead;
};

/* The next token but `i` (0 or 1), which stays where it is. Good until the next call that takes
 * one. */
const struct token *token_peek(struct token_reader *r, size_t i);
struct token token_take(struct token_reader *r);

/* Whether `s` can be the name of an environment variable: letters, digits and _, no digit first. */
bool token_is_variable_name(struct str s);

/* Whether it is that sign. */
bool token_is(const struct token *t, char c);

#endif
