/* Files that a conf names: whole, bounded, and through the one opener. */
#include "conf/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/load.h"
#include "conffile.h"
#include "net/sni.h"
#include "net/tls.h"
#include "unit.h"

static char opened[4096];

static int note_and_open(void *owner, const char *path, int flags)
{
    size_t n = strlen(opened);

    snprintf(opened + n, sizeof(opened) - n, "%s ", strrchr(path, '/') + 1);
    return open(path, O_RDONLY | O_CLOEXEC | flags);
}

static int refuse(void *owner, const char *path, int flags)
{
    errno = EACCES;
    return -1;
}

START_TEST(reads_the_whole_file)
{
    struct file_content c;
    char why[256];

    ck_assert(file_read(conffile_put("f", "two\nlines"), 100, &c, why, sizeof(why)));
    ck_assert_uint_eq(c.n, 9);
    ck_assert_str_eq(c.p, "two\nlines");
    file_forget(&c);
    ck_assert_ptr_null(c.p);
    ck_assert(file_read(conffile_put("empty", ""), 100, &c, why, sizeof(why)));
    ck_assert_uint_eq(c.n, 0);
    file_forget(&c);
}
END_TEST

START_TEST(says_why_not)
{
    struct file_content c;
    char why[256];

    ck_assert(!file_read(conffile_path("gone"), 100, &c, why, sizeof(why)));
    ck_assert_ptr_nonnull(strstr(why, "No such file"));
    ck_assert(!file_read("/dev/zero", 100, &c, why, sizeof(why)));
    ck_assert_ptr_nonnull(strstr(why, "it is no regular file"));
    ck_assert(!file_read("/tmp", 100, &c, why, sizeof(why)));
    ck_assert_ptr_nonnull(strstr(why, "it is no regular file"));
    /* A pipe that nobody writes to would hold the whole process. */
    ck_assert_int_eq(mkfifo(conffile_path("pipe"), 0600), 0);
    ck_assert(!file_read(conffile_path("pipe"), 100, &c, why, sizeof(why)));
    ck_assert_ptr_nonnull(strstr(why, "it is no regular file"));
    ck_assert(!file_read(conffile_put("f", "1234"), 3, &c, why, sizeof(why)));
    ck_assert_ptr_nonnull(strstr(why, "it is larger than 3 bytes"));
    ck_assert_ptr_null(c.p);
}
END_TEST

#define CONF                                                                                       \
    "include(\"more.conf\")\n"                                                                     \
    "listen \"127.0.0.1:8443\" { certificate = \"a.crt\" private_key = \"a.key\" }\n"              \
    "upstream \"ai\" { origin = \"https://api.example.com\" ca_file = \"b.crt\" }\n"               \
    "route \"/\" { workers = \"app\" }\n"

START_TEST(all_that_a_conf_names_goes_through_the_opener)
{
    static const char *const files[] = { "t.conf", "more.conf", "worker.secret", "a.crt", "a.key",
        "b.crt" };
    struct conf *c;

    conffile_put_certificate("a");
    conffile_put_certificate("b");
    conffile_put("worker.secret", "xyzzy\n");
    conffile_put("more.conf",
        "workers \"app\" { secret_file = \"worker.secret\" server \"127.0.0.1:8001\" { } }\n");
    file_set_opener(note_and_open, NULL);
    c = conffile_must_load(CONF);
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
        ck_assert_msg(strstr(opened, files[i]) != NULL, "%s not in: %s", files[i], opened);
    file_set_opener(NULL, NULL);
    conf_unref(c);
}
END_TEST

START_TEST(contexts_are_made_through_the_opener)
{
    struct tickets *tickets = tickets_new(1000, 1000, STR(""), 1000000);
    struct str crt;
    struct sni *sites, *again;
    struct tls_client *client;
    struct conf *c;
    char why[512];

    conffile_put_certificate("a");
    crt = str_of(conffile_path("a.crt"));
    c = conffile_must_load("listen \"127.0.0.1:8443\" { certificate = \"a.crt\" private_key = "
                           "\"a.key\" client_certificate = \"optional\" client_ca_file = "
                           "\"a.crt\" }\n"
                           "workers \"app\" { server \"127.0.0.1:8001\" { } }\n"
                           "route \"/\" { workers = \"app\" }\n");
    file_set_opener(note_and_open, NULL);
    sites = sni_new(c, &c->listens[0], NULL, tickets, why, sizeof(why));
    ck_assert_msg(sites != NULL, "%s", why);
    ck_assert_str_eq(opened, "a.crt a.key a.crt a.crt a.key a.crt a.crt ");
    ck_assert_ptr_eq(sni_new(c, &c->listens[0], sites, tickets, why, sizeof(why)), sites);
    sni_unref(sites);
    conffile_put_certificate("a"); /* renewed */
    again = sni_new(c, &c->listens[0], sites, tickets, why, sizeof(why));
    ck_assert_ptr_nonnull(again);
    ck_assert_ptr_ne(again, sites);
    sni_unref(again);
    sni_unref(sites);
    opened[0] = 0;
    client = tls_client_new(&(struct tls_terms){ .ca_file = crt }, why, sizeof(why));
    ck_assert_ptr_nonnull(client);
    tls_client_unref(client);
    ck_assert_str_eq(opened, "a.crt ");
    file_set_opener(refuse, NULL);
    ck_assert_ptr_null(sni_new(c, &c->listens[0], NULL, tickets, why, sizeof(why)));
    ck_assert_ptr_nonnull(strstr(why, "Permission denied"));
    ck_assert_ptr_null(tls_client_new(&(struct tls_terms){ .ca_file = crt }, why, sizeof(why)));
    file_set_opener(NULL, NULL);
    conf_unref(c);
    tickets_free(tickets);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("file");

    tcase_add_checked_fixture(t, conffile_open, conffile_close);
    tcase_add_test(t, reads_the_whole_file);
    tcase_add_test(t, says_why_not);
    tcase_add_test(t, all_that_a_conf_names_goes_through_the_opener);
    tcase_add_test(t, contexts_are_made_through_the_opener);
    return t;
}

UNIT_MAIN("conf_file")
