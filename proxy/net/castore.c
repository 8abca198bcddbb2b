/* The files are looked for each time: a package that brings them may be installed meanwhile. */
#include "net/castore.h"

#include <ctype.h>
#include <dirent.h>
#include <openssl/x509.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const bundles[] = {
    "/etc/ssl/certs/ca-certificates.crt",                /* Debian, Ubuntu, Arch, Alpine */
    "/etc/pki/tls/certs/ca-bundle.crt",                  /* Fedora, Red Hat */
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", /* newer ones of them */
    "/etc/ssl/ca-bundle.pem",                            /* SUSE */
    "/etc/ssl/cert.pem",                                 /* Alpine */
};

/* Whether OpenSSL finds a certificate there: it looks for names like 5ad8a5d6.0. */
static bool castore_has_hashes(const char *path)
{
    DIR *folder = opendir(path);
    struct dirent *entry;
    bool found = false;

    while (folder && !found && (entry = readdir(folder))) {
        size_t n = 0;

        while (isxdigit((unsigned char)entry->d_name[n]))
            n++;
        found = n == 8 && entry->d_name[n] == '.' && isdigit((unsigned char)entry->d_name[n + 1]);
    }
    if (folder)
        closedir(folder);
    return found;
}

static bool castore_is_readable(const char *path)
{
    return path && access(path, R_OK) == 0;
}

struct castore castore_find(void)
{
    const char *fallback = getenv("TARRY_CA_FALLBACK");

    if (getenv(X509_get_default_cert_file_env()) || getenv(X509_get_default_cert_dir_env()) ||
        castore_is_readable(X509_get_default_cert_file()) ||
        castore_has_hashes(X509_get_default_cert_dir()))
        return (struct castore){ .builtin = true };
    for (size_t i = 0; i < sizeof(bundles) / sizeof(bundles[0]); i++)
        if (castore_is_readable(bundles[i]))
            return (struct castore){ .file = bundles[i] };
    return (struct castore){ .file = castore_is_readable(fallback) ? fallback : NULL };
}
