/* Secrets, certificates and keys. */
#include "conf/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define WHY(...) (snprintf(why, VALUE_WHY_MAX, __VA_ARGS__), false)

/* The descriptor of a regular file, or -1 with `why`. Others could block or never end. */
static int open_regular(const char *path, char why[VALUE_WHY_MAX])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;

    if (fd < 0) {
        snprintf(why, VALUE_WHY_MAX, "cannot read \"%s\": %s", path, strerror(errno));
        return -1;
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        snprintf(why, VALUE_WHY_MAX, "cannot read \"%s\": it is no regular file", path);
        return -1;
    }
    return fd;
}

static bool is_readable(const char *path, char why[VALUE_WHY_MAX])
{
    int fd = open_regular(path, why);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

bool secret_read(struct arena *a, const char *path, struct str *out, char why[VALUE_WHY_MAX])
{
    char text[SECRET_MAX + 3]; /* a line's end of two octets, and one to see that there is more */
    int fd = open_regular(path, why);
    size_t n = 0;
    ssize_t got;

    if (fd < 0)
        return false;
    while (n < sizeof(text) && (got = read(fd, text + n, sizeof(text) - n)) != 0) {
        if (got < 0 && errno != EINTR) {
            int saved = errno;

            close(fd);
            return WHY("cannot read \"%s\": %s", path, strerror(saved));
        }
        n += got > 0 ? (size_t)got : 0;
    }
    close(fd);
    if (n > 0 && n < sizeof(text) && text[n - 1] == '\n') {
        n--;
        n -= n > 0 && text[n - 1] == '\r';
    }
    if (n == 0)
        return WHY("\"%s\" is empty; put one line with the secret into it", path);
    if (n > SECRET_MAX)
        return WHY(
            "the secret in \"%s\" is longer than %d bytes; take a shorter one", path, SECRET_MAX);
    for (size_t i = 0; i < n; i++)
        if (text[i] < 0x21 || text[i] > 0x7e)
            return WHY("\"%s\" holds something else than visible ASCII in one line (octet %zu); "
                       "take letters and digits",
                path, i + 1);
    *out = arena_copy(a, str_make(text, n));
    OPENSSL_cleanse(text, sizeof(text));
    return out->p ? true : WHY("out of memory");
}

/* Instead of OpenSSL's own, which would ask at the terminal. */
static int no_passphrase(char *buf, int size, int rwflag, void *data)
{
    return -1;
}

static SSL_CTX *new_context(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());

    if (ctx)
        SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
    return ctx;
}

/* The last of OpenSSL's errors in words; the queue is emptied. */
static const char *openssl_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());

    ERR_clear_error();
    return reason ? reason : "unknown error";
}

bool secret_check_certificate(const char *path, char why[VALUE_WHY_MAX])
{
    SSL_CTX *ctx;
    bool good;

    if (!is_readable(path, why))
        return false;
    ctx = new_context();
    good = ctx && SSL_CTX_use_certificate_chain_file(ctx, path) == 1;
    SSL_CTX_free(ctx);
    if (!good)
        return WHY("no certificate in \"%s\" (%s); it must be a PEM file", path, openssl_reason());
    return true;
}

bool secret_check_key(const char *path, char why[VALUE_WHY_MAX])
{
    SSL_CTX *ctx;
    bool good;

    if (!is_readable(path, why))
        return false;
    ctx = new_context();
    good = ctx && SSL_CTX_use_PrivateKey_file(ctx, path, SSL_FILETYPE_PEM) == 1;
    SSL_CTX_free(ctx);
    if (!good)
        return WHY("no private key in \"%s\" (%s); it must be a PEM file without passphrase", path,
            openssl_reason());
    return true;
}

bool secret_check_authorities(const char *path, char why[VALUE_WHY_MAX])
{
    SSL_CTX *ctx;
    bool good;

    if (!is_readable(path, why))
        return false;
    ctx = new_context();
    good = ctx && SSL_CTX_load_verify_file(ctx, path) == 1;
    SSL_CTX_free(ctx);
    if (!good)
        return WHY("no certificates in \"%s\" (%s); it must be a PEM file", path, openssl_reason());
    return true;
}

bool secret_check_pair(const char *certificate, const char *key, char why[VALUE_WHY_MAX])
{
    SSL_CTX *ctx = new_context();
    bool good = ctx && SSL_CTX_use_certificate_chain_file(ctx, certificate) == 1 &&
                SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) == 1 &&
                SSL_CTX_check_private_key(ctx) == 1;

    SSL_CTX_free(ctx);
    if (!good)
        return WHY("\"%s\" is not the key of the certificate in \"%s\" (%s); take the one that it "
                   "was made with",
            key, certificate, openssl_reason());
    return true;
}
