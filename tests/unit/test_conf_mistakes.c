/* Confs with mistakes: each is named with file, line and remedy, all of them, and nothing that only
 * follows from one. */
#include "conf/load.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/scan.h"
#include "conffile.h"
#include "unit.h"

/* Four lines that make a conf whole, so that the one mistake of a row is the only one: they follow
 * the row's text. */
#define REST                                                                                       \
    "\nlisten \"127.0.0.1:8080\" { }\n"                                                            \
    "workers \"app\" { server \"127.0.0.1:8001\" { } }\n"                                          \
    "route \"/\" { workers = \"app\" }\n"

static void fail_with(const struct conf_errors *e, const char *why)
{
    fprintf(stderr, "%s; mistakes:\n", why);
    for (size_t i = 0; i < e->count; i++)
        fprintf(stderr, "  " STR_FMT "\n", STR_ARG(e->list[i]));
    ck_abort_msg("%s", why);
}

/* The mistakes must be exactly those of `want`, in its order: lines and parts of texts. */
struct want {
    unsigned line;
    const char *part;
};

static void check_in(
    const struct conf_errors *e, const char *file, const struct want *want, size_t n)
{
    char begin[256];

    if (e->count != n)
        fail_with(e, "another number of mistakes than expected");
    for (size_t i = 0; i < n; i++) {
        struct str text = e->list[i];

        snprintf(begin, sizeof(begin), "%s:%u: ", file, want[i].line);
        if (!str_starts_with(text, str_of(begin)))
            fail_with(e, begin);
        if (!memmem(text.p, text.n, want[i].part, strlen(want[i].part)))
            fail_with(e, want[i].part);
    }
}

static void check(const char *text, const struct want *want, size_t n)
{
    struct conf_errors e;
    struct conf *c = conffile_load(text, &e);

    ck_assert_ptr_null(c);
    check_in(&e, conffile_path("t.conf"), want, n);
    conf_errors_release(&e);
}

static const struct {
    const char *text;
    struct want want;
} rows[] = {
    /* names */
    { "queue_maxx = 5" REST, { 1, "unknown option \"queue_maxx\"" } },
    { "\nproceses = 5" REST, { 2, "did you mean \"processes\"?" } },
    { "xyzzy = 5" REST, { 1, "unknown option \"xyzzy\"" } },
    { "xyzzy \"a\" { b = c { } }" REST, { 1, "unknown section \"xyzzy\"" } },
    { "endpoint x { }" REST,
        { 1, "\"endpoint\" does not belong here but in an upstream section" } },
    { "slots = 5" REST, { 1, "\"slots\" does not belong here but in a server section" } },
    { "server \"x:1\" { }" REST,
        { 1, "\"server\" does not belong here but in a workers section" } },
    { "log { levl = \"info\" }" REST, { 1, "did you mean \"level\"?" } },
    { "upstream u { origin = \"https://a.test\" retry_on = { } }" REST,
        { 1, "retry_on: the list is empty; name a value" } },
    { "title = \"x\"" REST, { 1, "unknown option \"title\"" } },
    { "lost = \"1\"" REST, { 1, "unknown option \"lost\"" } },
    { "workers \"b\" { server \"127.0.0.1:1\" { } log = 1 }" REST, { 1, "\"log\"" } },
    /* numbers and units */
    { "shutdown_timeout = \"30\"" REST, { 1, "write \"30s\" or \"30ms\"" } },
    { "shutdown_timeout = 30" REST, { 1, "write \"30s\" or \"30ms\"" } },
    { "shutdown_timeout = \"30 s\"" REST, { 1, "shutdown_timeout: \"30 s\" is no duration" } },
    { "shutdown_timeout = \"\"" REST, { 1, "is no duration" } },
    { "shutdown_timeout = \"10K\"" REST, { 1, "is no duration" } },
    { "shutdown_timeout = \"8d\"" REST, { 1, "the most is 7d" } },
    { "header_timeout = \"0s\"" REST, { 1, "the least is 1ms" } },
    { "header_max = \"32KB\"" REST, { 1, "header_max: \"32KB\" is no size" } },
    { "header_max = \"5s\"" REST, { 1, "is no size" } },
    { "header_max = \"10\"" REST, { 1, "the least is 256" } },
    { "processes = \"two\"" REST, { 1, "processes: \"two\" is no whole number" } },
    { "processes = -1" REST, { 1, "processes: \"-1\" is negative; the least is 1" } },
    { "processes = 0" REST, { 1, "the least is 1" } },
    { "processes = 257" REST, { 1, "the most is 256" } },
    { "processes = 99999999999999999999999999" REST,
        { 1, "is too large a number; the most is 256" } },
    { "shutdown_timeout = \"12345678901234567890s\"" REST, { 1, "is too large a number" } },
    { "header_max = \"-4K\"" REST, { 1, "header_max: \"-4K\" is negative" } },
    { "processes = 2;" REST, { 1, "\";\" ends nothing here" } },
    { "log { level = \"info\"; }" REST, { 1, "\";\" ends nothing here" } },
    { "workers \"b\" { server \"127.0.0.1:1\" { slots = 0 } }" REST,
        { 1, "slots: \"0\" is too little" } },
    { "workers \"b\" { server \"127.0.0.1:1\" { } state_max = 8001 }" REST,
        { 1, "the most is 8000" } },
    { "workers \"b\" { server \"127.0.0.1:1\" { } retry_idempotent = maybe }" REST,
        { 1, "neither true nor false" } },
    { "upstream \"u\" { origin = \"https://a.b\" retry_first_pause = \"2s\" }" REST,
        { 1, "the most is 1s" } },
    { "log { level = \"inf\" }" REST, { 1, "did you mean \"info\"?" } },
    { "log { level = \"loud\" }" REST, { 1, "\"error\", \"warn\", \"info\" or \"debug\"" } },
    { "access_log { format = \"xml\" }" REST, { 1, "\"json\", \"combined\" or \"logfmt\"" } },
    { "log { target = \"stdlog\" }" REST, { 1, "write \"stderr\", \"stdout\", \"syslog\" or" } },
    { "log { target = \"/nonexistent/x.log\" }" REST,
        { 1, "the folder \"/nonexistent/\" is not there" } },
    { "log { target = \"/tmp/.\" }" REST, { 1, "is a folder" } },
    { "temp_dir = \"/nonexistent\"" REST, { 1, "temp_dir: cannot use \"/nonexistent\"" } },
    { "temp_dir = \"/etc/passwd\"" REST, { 1, "is no folder" } },
    /* addresses */
    { "listen \"127.0.0.1\" { }" REST, { 1, "has no port" } },
    { "listen \"8080\" { }" REST, { 1, "has no port" } },
    { "listen \":8080\" { }" REST, { 1, "has no host" } },
    { "listen \"\" { }" REST, { 1, "has no port" } },
    { "listen \"127.0.0.1:0\" { }" REST, { 1, "1 to 65535" } },
    { "listen \"127.0.0.1:65536\" { }" REST, { 1, "1 to 65535" } },
    { "listen \"127.0.0.1:80x\" { }" REST, { 1, "1 to 65535" } },
    { "listen \"127.0.0.256:80\" { }" REST, { 1, "neither an IP address nor localhost" } },
    { "listen \"example.com:80\" { }" REST,
        { 1, "names are looked up only for servers and origins" } },
    { "listen \"[::]:80\" { }\nlisten \"127.0.0.1:80\" { }" REST,
        { 1, "takes IPv4 clients too, and \"127.0.0.1:80\"" } },
    { "listen \"0.0.0.0:80\" { }\nadmin \"[::]:80\" { }" REST, { 2, "ipv6_only = true" } },
    { "listen \"*:80\" { }\nlisten \"[::]:80\" { }" REST, { 2, "take another" } },
    { "listen \"::1:80\" { }" REST, { 1, "stands in brackets" } },
    { "listen \"[::1:80\" { }" REST, { 1, "is no IPv6 address" } },
    { "listen \"[::1]\" { }" REST, { 1, "1 to 65535" } },
    { "listen \"[127.0.0.1]:80\" { }" REST, { 1, "is no IPv6 address" } },
    { "listen \"unix:\" { }" REST, { 1, "has no path" } },
    { "admin \"unix:/"
      "01234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901"
      "23456789012345678"
      "\" { }" REST,
        { 1, "may have 107" } },
    { "workers \"b\" { server \"10.0.0.256:80\" { } }" REST,
        { 1, "server: the host of \"10.0.0.256:80\" is neither" } },
    { "workers \"b\" { server \"app..lan:80\" { } }" REST, { 1, "is neither an IP address" } },
    { "workers \"b\" { server \"app:0\" { } }" REST, { 1, "1 to 65535" } },
    { "workers \"b\" { server \"app:80\" { } server \"app:80\" { } }" REST, { 1, "name it once" } },
    { "workers \"b\" { server \"unix:/run/%d.sock\" { } }" REST, { 1, "has no count" } },
    { "workers \"b\" { server \"unix:/run/a.sock\" { count = 2 } }" REST,
        { 1, "for a path with %d" } },
    { "workers \"b\" { server \"127.0.0.1:8099\" { first = 2 } }" REST,
        { 1, "for a path with %d" } },
    { "trusted_proxies = { \"10.0.0.1/8\" }" REST, { 1, "write \"10.0.0.0/8\"" } },
    { "trusted_proxies = { \"10.0.0.0/33\" }" REST, { 1, "from 0 to 32" } },
    { "trusted_proxies = { \"::/129\" }" REST, { 1, "from 0 to 128" } },
    { "trusted_proxies = { \"10.0.0.0/\" }" REST, { 1, "from 0 to 32" } },
    { "trusted_proxies = { \"localhost\" }" REST, { 1, "is no address" } },
    { "trusted_proxies = {\n\"10.0.0.0/8\",\n\"x\"\n}" REST, { 3, "\"x\" is no address" } },
    /* sections */
    { "workers { server \"127.0.0.1:1\" { } }" REST,
        { 1, "workers has no name; write workers \"app\"" } },
    { "log \"x\" { }" REST, { 1, "log takes no title" } },
    { "workers \"b\" { server \"127.0.0.1:8001\" { } }" REST,
        { 3, "server \"127.0.0.1:8001\" stands twice" } },
    { "workers \"b\" { server \"127.0.0.1:8080\" { } }" REST,
        { 1, "server \"127.0.0.1:8080\" is Tarry itself" } },
    { "listen \"[::]:8081\" { }\nworkers \"b\" { server \"127.0.0.1:8081\" { } }" REST,
        { 2, "is Tarry itself" } },
    { "admin \"unix:/tmp/a\" { }\nworkers \"b\" { server \"unix:/tmp/a\" { } }" REST,
        { 2, "is Tarry itself" } },
    { "log { }\nlog { }" REST, { 2, "log stands twice, first in line 1" } },
    { "workers \"app\" { server \"127.0.0.1:9\" { } }" REST,
        { 3, "workers \"app\" stands twice, first at " } },
    { "workers \"a b\" { server \"127.0.0.1:1\" { } }" REST, { 1, "\"a b\" is no name" } },
    { "workers \"b\" { }" REST, { 1, "workers \"b\" has no server" } },
    { "workers \"b\" { server \"127.0.0.1:1\" { }\nserver \"127.0.0.1:1\" { } }" REST,
        { 2, "server \"127.0.0.1:1\" stands twice" } },
    { "workers \"b\" { server \"localhost:1\" { }\nserver \"127.0.0.1:1\" { } }" REST,
        { 2, "stands twice" } },
    { "listen \"localhost:8080\" { }" REST, { 2, "the address \"127.0.0.1:8080\" stands twice" } },
    { "admin \"127.0.0.1:8080\" { }" REST, { 2, "stands twice" } },
    { "workers \"b\" { server \"127.0.0.1:1\" { } call_max = \"2M\"\nhandoff_max = \"1M\" }" REST,
        { 1, "call_max (\"2M\") is more than handoff_max (\"1M\", line 2)" } },
    { "workers \"b\" { server \"127.0.0.1:1\" { }\nnotify_first_pause = \"2s\" notify_max_pause = "
      "\"1s\" }" REST,
        { 2, "is more than notify_max_pause" } },
    { "workers \"b\" { server \"127.0.0.1:1\" { } queue_max = 1\nqueue_max = 1 }" REST,
        { 2, "queue_max is set twice, first at " } },
    /* upstreams */
    { "upstream \"u\" { }" REST, { 1, "upstream \"u\" has no origin" } },
    { "upstream \"u\" { origin = \"api.example.com\" }" REST, { 1, "is no origin" } },
    { "upstream \"u\" { origin = \"\" }" REST, { 1, "is no origin" } },
    { "upstream \"u\" { origin = \"ftp://a.example\" }" REST, { 1, "is no origin" } },
    { "upstream \"u\" { origin = \"https://a.example/v1\" }" REST, { 1, "leave the path out" } },
    { "upstream \"u\" { origin = \"https://a.example?x\" }" REST, { 1, "leave the path out" } },
    { "upstream \"u\" { origin = \"https://a.example:x\" }" REST, { 1, "not a port" } },
    { "upstream \"u\" { origin = \"https://1.2.3\" }" REST, { 1, "is no IPv4 address" } },
    { "upstream \"u\" { origin = \"https://a..b\" }" REST, { 1, "an empty part" } },
    { "upstream \"u\" { origin = \"https://[:::1]\" }" REST, { 1, "is no IPv6 address" } },
    { "upstream \"u\" { origin = \"http://api.example.com\" }" REST,
        { 1, "neither loopback nor private" } },
    { "upstream \"u\" { origin = \"http://8.8.8.8\" }" REST,
        { 1, "neither loopback nor private" } },
    { "upstream \"u\" { origin = \"http://172.32.0.1\" }" REST,
        { 1, "neither loopback nor private" } },
    { "upstream \"u\" { origin = \"http://[2001:db8::1]\" }" REST,
        { 1, "neither loopback nor private" } },
    { "upstream \"u\" { origin = \"http://localhost.example\" }" REST,
        { 1, "neither loopback nor private" } },
    { "upstream \"u\" { origin = \"http://[::ffff:8.8.8.8]\" }" REST,
        { 1, "neither loopback nor private" } },
    { "upstream \"u\" { origin = \"https://a.b\" insecure = true }" REST,
        { 1, "insecure allows plain http only" } },
    { "upstream \"u\" { origin = \"https://a.b\" ca_file = \"/nonexistent\" }" REST,
        { 1, "ca_file: cannot read" } },
    { "upstream \"u\" { origin = \"https://a.b\" ca_file = \"/etc/passwd\" }" REST,
        { 1, "no certificates in" } },
    { "upstream \"u\" { origin = \"https://a.b\" ca_file = \"/dev/zero\" }" REST,
        { 1, "it is no regular file" } },
    { "upstream \"u\" { origin = \"https://a.b\" }\nupstream \"u\" { origin = \"https://a.c\" "
      "}" REST,
        { 2, "upstream \"u\" stands twice" } },
    { "upstream \"u\" { origin = \"https://a.b\" connect_timeout = \"2s\" total_timeout = \"1s\" "
      "}" REST,
        { 1, "connect_timeout (\"2s\") is more than total_timeout (\"1s\"" } },
    { "upstream \"u\" { origin = \"https://a.b\" relay_headers = { \"a b\" } }" REST,
        { 1, "is no name of a field" } },
    { "upstream \"u\" { origin = \"https://a.b\" relay_headers = { \"Connection\" } }" REST,
        { 1, "cannot be passed on" } },
    { "upstream \"u\" { origin = \"https://a.b\" relay_headers = { \"tarry.x\" } }" REST,
        { 1, "cannot be passed on" } },
    /* set_header */
    { "upstream \"u\" { origin = \"https://a.b\" set_header = { \"Authorization\" } }" REST,
        { 1, "\"Name: value\"" } },
    { "upstream \"u\" { origin = \"https://a.b\" set_header = { \"A b: c\" } }" REST,
        { 1, "\"Name: value\"" } },
    { "upstream \"u\" { origin = \"https://a.b\" set_header = { \": c\" } }" REST,
        { 1, "\"Name: value\"" } },
    { "upstream \"u\" { origin = \"https://a.b\" set_header = { \"A : c\" } }" REST,
        { 1, "\"Name: value\"" } },
    { "upstream \"u\" { origin = \"https://a.b\" set_header = { \"A: b\\r\\nC: d\" } }" REST,
        { 1, "control octet 0x0d" } },
    { "upstream \"u\" { origin = \"https://a.b\" set_header = { \"A: b\\x7f\" } }" REST,
        { 1, "control octet 0x7f" } },
    { "upstream \"u\" { origin = \"https://a.b\" set_header = { \"A: b\\x00c\" } }" REST,
        { 1, "NUL" } },
    { "upstream \"u\" { origin = \"https://a.b\" set_header = { \"host: b\" } }" REST,
        { 1, "Tarry's own to set" } },
    { "upstream \"u\" { origin = \"https://a.b\" set_header = { \"Content_Length: 1\" } }" REST,
        { 1, "Tarry's own to set" } },
    { "upstream \"u\" { origin = \"https://a.b\" set_header = { \"Transfer-Encoding: x\" } }" REST,
        { 1, "Tarry's own to set" } },
    { "upstream \"u\" { origin = \"https://a.b\" set_header = { \"Upgrade: x\" } }" REST,
        { 1, "Tarry's own to set" } },
    { "upstream \"u\" { origin = \"https://a.b\" set_header = { \"Tarry-Auth: x\" } }" REST,
        { 1, "never sent to an upstream" } },
    { "upstream \"u\" { origin = \"https://a.b\" set_header = { \"TARRY_X: x\" } }" REST,
        { 1, "never sent to an upstream" } },
    { "upstream \"u\" { origin = \"https://a.b\" set_header = { \"A: x\", \"a: y\" } }" REST,
        { 1, "has \"a\" twice" } },
    /* routes */
    { "route \"/x\" { }" REST, { 1, "route \"/x\" leads nowhere" } },
    { "upstream \"u\" { origin = \"https://a.b\" }\nroute \"/x\" { upstream = \"u\" workers = "
      "\"app\" }" REST,
        { 2, "more than one of workers, upstream and health" } },
    { "route \"/x\" { workers = \"nobody\" }" REST,
        { 1, "there is no workers section \"nobody\"" } },
    { "route \"/x\" { upstream = \"app\" }" REST, { 1, "there is no upstream section \"app\"" } },
    { "upstream \"u\" { origin = \"https://a.b\" }\nroute \"/x\" { upstream = \"u\" internal = "
      "true }" REST,
        { 2, "internal is for resumes" } },
    { "compression { }" REST, { 1, "compression has no types" } },
    { "compression { types = { \"json\" } }" REST, { 1, "write one like \"application/json\"" } },
    { "compression { types = { \"*/*\" } }" REST, { 1, "is no media type" } },
    { "compression { types = { \"text/html; charset=utf-8\" } }" REST, { 1, "has parameters" } },
    { "compression { types = { \"Text/Event-Stream\" } }" REST,
        { 1, "event streams are never compressed" } },
    { "compression { types = { \"text/*\" } encodings = { \"deflate\" } }" REST,
        { 1, "write \"gzip\", \"br\" or \"zstd\"" } },
    { "compression { types = { \"text/*\" } encodings = { \"br\", \"gzip\", \"br\" } }" REST,
        { 1, "\"br\" stands twice" } },
    { "compression { types = { \"text/*\" } brotli_level = 11 }" REST, { 1, "the most is 9" } },
    { "route \"/x\" { workers = \"app\" internal = true websocket = true }" REST,
        { 1, "no client reaches an internal route" } },
    { "upstream \"u\" { origin = \"https://a.b\" }\nroute \"/x\" { upstream = \"u\" "
      "prefix_rewrite = \"/\" }" REST,
        { 2, "write route \"/x/\"" } },
    { "upstream \"u\" { origin = \"https://a.b\" }\nroute \"/x/\" { upstream = \"u\" "
      "prefix_rewrite = \"/v1\" }" REST,
        { 2, "does not begin and end with a slash" } },
    { "upstream \"u\" { origin = \"https://a.b\" }\nroute \"/x/\" { upstream = \"u\" "
      "prefix_rewrite = \"/v 1/\" }" REST,
        { 2, "holds the character 0x20" } },
    { "route \"/x/\" { workers = \"app\" prefix_rewrite = \"/\" }" REST,
        { 1, "is for routes with an upstream" } },
    { "route \"/x/\" { workers = \"app\" keep_alive_interval = \"15s\" }" REST,
        { 1, "is for routes with an upstream" } },
    { "route \"x\" { workers = \"app\" }" REST, { 1, "does not begin with \"/\"" } },
    { "route \"/a/../b\" { workers = \"app\" }" REST, { 1, "write \"/b\"" } },
    { "route \"/a//b\" { workers = \"app\" }" REST, { 1, "write \"/a/b\"" } },
    { "route \"/%61\" { workers = \"app\" }" REST, { 1, "write \"/a\"" } },
    { "route \"/a?b\" { workers = \"app\" }" REST, { 1, "write \"/a\"" } },
    { "route \"/../b\" { workers = \"app\" }" REST, { 1, "is no path that a request can have" } },
    { "route \"/x\" { workers = \"app\" host = \"a/b\" }" REST, { 1, "is no host name" } },
    { "route \"/x\" { workers = \"app\" host = \"*.example.com\" }" REST,
        { 1, "is no host name" } },
    { "route \"/x\" { workers = \"app\" host = \"a:80\" }" REST, { 1, "write \"a\"" } },
    { "route \"/x\" { workers = \"app\" }\nroute \"/x\" { workers = \"app\" }" REST,
        { 2, "\"/x\" stands twice" } },
    { "route \"/x\" { host = \"a\" workers = \"app\" }\nroute \"/x\" { host = \"A\" workers = "
      "\"app\" }" REST,
        { 2, "\"/x\" stands twice" } },
    /* what is missing in the whole file is told of its first line */
    { "workers \"app\" { server \"127.0.0.1:8001\" { } }\nroute \"/\" { workers = \"app\" }",
        { 1, "no listen section" } },
    { "listen \"127.0.0.1:80\" { }", { 1, "no route section" } },
    /* and what is missing because of a mistake that was told is not told again */
    { "listn \"127.0.0.1:80\" { }\nworkers \"app\" { server \"127.0.0.1:8001\" { } }\nroute \"/\" "
      "{ workers = \"app\" }",
        { 1, "did you mean \"listen\"?" } },
    { "listen \"127.0.0.1:80\" { }\nworker \"app\" { server \"127.0.0.1:8001\" { } }\nroute \"/\" "
      "{ workers = \"app\" }",
        { 2, "did you mean \"workers\"?" } },
    { "route \"/x\" { worker = \"app\" }" REST, { 1, "did you mean \"workers\"?" } },
    { "upstream \"u\" { orgin = \"https://a.b\" }" REST, { 1, "did you mean \"origin\"?" } },
    { "upstream \"u\" { origin = \"${TARRY_TEST_UNSET}\" }" REST,
        { 1, "TARRY_TEST_UNSET is not set" } },
    { "workers \"b\" { servr \"127.0.0.1:1\" { } }" REST, { 1, "did you mean \"server\"?" } },
    /* variables */
    { "temp_dir = \"${TARRY_TEST_UNSET}\"" REST,
        { 1, "the environment variable TARRY_TEST_UNSET is not set" } },
    { "temp_dir = ${TARRY_TEST_UNSET}" REST, { 1, "outside of double quotes" } },
    { "temp_dir = \"${TARRY_TEST_UNSET\"" REST, { 1, "without \"}\"" } },
    { "temp_dir = \"${}\"" REST, { 1, "is no name of a variable" } },
    { "temp_dir = \"${A B}\"" REST, { 1, "is no name of a variable" } },
    { "temp_dir = \"${1}\"" REST, { 1, "is no name of a variable" } },
    /* syntax */
    { "temp_dir = \"/tmp" REST, { 1, "the string is never closed" } },
    { "temp_dir = '/tmp" REST, { 1, "the string is never closed; end it with '" } },
    { "temp_dir = \"\\777\"" REST, { 1, "is no octet" } },
    { "processes 4" REST, { 1, "\"=\" is missing behind \"processes\"" } },
    { "processes =" REST, { 1, "processes has no value" } },
    { "processes = = 4" REST, { 1, "processes has no value" } },
    { "processes = { 4 }" REST, { 1, "takes one value, not a list" } },
    { "processes += 4" REST, { 1, "is no list" } },
    { "log\nprocesses = 4" REST, { 1, "\"{\" is missing behind \"log\"" } },
    { "hello world" REST, { 1, "neither an option nor a section" } },
    { "\"processes\" = 4" REST, { 1, "unexpected \"processes\"" } },
    { "}" REST, { 1, "closes nothing" } },
    { "\x01\x02" REST, { 1, "the octet 0x01 has no place here" } },
    { "processes = 2 + 2" REST, { 1, "\"+\" stands for nothing here" } },
    { "/* comment" REST, { 1, "the comment is never closed" } },
    { "workers \"b\" { server \"127.0.0.1:1\" { }" REST,
        { 2, "the section workers, opened in line 1, is not closed" } },
    { REST "log { level = \"info\"\n", { 5, "the section log is never closed" } },
    { "trusted_proxies = { \"10.0.0.0/8\" \"::1\" }" REST,
        { 1, "a comma is missing before \"::1\"" } },
    { "trusted_proxies = { \"10.0.0.0/8\"\nprocesses = 2" REST,
        { 1, "the list of trusted_proxies is never closed" } },
    { "trusted_proxies = { , \"10.0.0.0/8\" }" REST, { 1, "unexpected \",\" in the list" } },
    { "include(\"nonexistent.conf\")" REST, { 1, "nonexistent.conf\": No such file" } },
    { "include(\"t.conf\")" REST, { 1, "it includes itself" } },
    { "include(\"/dev/zero\")" REST, { 1, "it is no regular file" } },
    { "include(\"/tmp\")" REST, { 1, "it is no regular file" } },
    { "include()" REST, { 1, "include has no file" } },
    { "include(\"\")" REST, { 1, "include names no file" } },
    { "include(\"a\", \"b\")" REST, { 1, "include takes one file" } },
    { "include \"a\"" REST, { 1, "include takes one file" } },
    { "override()" REST, { 1, "override has no file" } },
    { "override \"a\"" REST, { 1, "override takes one file" } },
    { "override(\"nonexistent.conf\")" REST, { 1, "nonexistent.conf\": No such file" } },
    { "log { override(\"a.conf\") }" REST, { 1, "override stands outside of sections" } },
};

START_TEST(names_the_mistake)
{
    struct conf_errors e;
    struct conf *c;

    unsetenv("TARRY_TEST_UNSET");
    c = conffile_load(rows[_i].text, &e);
    ck_assert_msg(c == NULL, "no mistake is found in: %s", rows[_i].text);
    ck_assert_uint_ge(e.count, 1);
    check_in(&e, conffile_path("t.conf"), &rows[_i].want, 1);
    conf_errors_release(&e);
}
END_TEST

START_TEST(names_all_mistakes_in_the_order_of_the_file)
{
    static const char text[] = "processes = many\n"
                               "listen \"127.0.0.1\" { }\n"
                               "workers \"app\" {\n"
                               "    server \"127.0.0.1:8001\" { slots = 0 }\n"
                               "    queue_timeot = \"30s\"\n"
                               "    queue_timeout = \"30\"\n"
                               "    call_max = \"2M\" handoff_max = \"1M\"\n"
                               "}\n"
                               "upstream \"a\" { origin = \"http://api.example.com\" }\n"
                               "route \"/\" { workers = \"ap\" }\n"
                               "route \"/b\" { }\n"
                               "include(\"inner.conf\")\n"
                               "temp_dir = \"/nonexistent\"\n";
    static const struct want want[] = { { 1, "whole number" }, { 2, "no port" },
        { 4, "too little" }, { 5, "queue_timeout" }, { 6, "no unit" }, { 7, "is more than" },
        { 9, "private" }, { 10, "\"ap\"" }, { 11, "nowhere" }, { 2, "" }, { 13, "cannot use" } };
    struct conf_errors e;

    conffile_put("inner.conf",
        "# fine\nlisten \"127.0.0.1:80\" { certificate = \"no\" private_key = \"no\" }\n");
    ck_assert_ptr_null(conffile_load(text, &e));
    ck_assert_uint_eq(e.count, 12);
    check_in(&(struct conf_errors){ .list = e.list, .count = 9 }, conffile_path("t.conf"), want, 9);
    check_in(&(struct conf_errors){ .list = e.list + 9, .count = 2 }, conffile_path("inner.conf"),
        (struct want[]){ { 2, "certificate" }, { 2, "private_key" } }, 2);
    check_in(&(struct conf_errors){ .list = e.list + 11, .count = 1 }, conffile_path("t.conf"),
        &want[10], 1);
    conf_errors_release(&e);
}
END_TEST

START_TEST(reads_on_behind_broken_syntax)
{
    static const struct want want[] = { { 1, "never closed" }, { 2, "\"=\" is missing" },
        { 3, "neither" }, { 4, "without" }, { 5, "no value" }, { 6, "\"7\" has no unit" } };

    check("temp_dir = \"/tmp\nprocesses 5\nfoo bar baz\nbody_max = \"${\"\nheader_max "
          "=\nheader_timeout = \"7\"" REST,
        want, 6);
}
END_TEST

START_TEST(a_file_that_cannot_be_read_is_named)
{
    struct conf_errors e;

    ck_assert_ptr_null(conf_load("/nonexistent/tarry.conf", &e));
    check_in(&e, "/nonexistent/tarry.conf", (struct want[]){ { 1, "No such file" } }, 1);
    conf_errors_release(&e);
    ck_assert_ptr_null(conf_load("/tmp", &e));
    check_in(&e, "/tmp", (struct want[]){ { 1, "no regular file" } }, 1);
    conf_errors_release(&e);
}
END_TEST

START_TEST(certificates_and_keys_must_fit)
{
    conffile_put_certificate("a");
    conffile_put_certificate("b");
    conffile_put("empty.crt", "");
    conffile_put("locked.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGjMF8GCSqGSIb3DQEFDTBSMDEG\n"
        "-----END ENCRYPTED PRIVATE KEY-----\n");
#define TLS(crt, key)                                                                              \
    "listen \"[::]:443\" {\ncertificate = \"" crt "\"\nprivate_key = \"" key "\"\n}" REST
    check(TLS("a.crt", "b.key"), (struct want[]){ { 3, "is not the key of the certificate" } }, 1);
    check(TLS("empty.crt", "a.key"), (struct want[]){ { 2, "no certificate in" } }, 1);
    check(TLS("a.key", "a.key"), (struct want[]){ { 2, "no certificate in" } }, 1);
    check(TLS("a.crt", "a.crt"), (struct want[]){ { 3, "no private key in" } }, 1);
    check(TLS("a.crt", "locked.key"), (struct want[]){ { 3, "no private key in" } }, 1);
    check(TLS("none.crt", "none.key"),
        (struct want[]){ { 2, "No such file" }, { 3, "No such file" } }, 2);
    check("listen \"[::]:443\" { certificate = \"a.crt\" }" REST,
        (struct want[]){ { 1, "certificate without private_key" } }, 1);
    check("listen \"[::]:443\" { private_key = \"a.key\" }" REST,
        (struct want[]){ { 1, "private_key without certificate" } }, 1);
}
END_TEST

START_TEST(identities_must_be_of_use)
{
    conffile_put_certificate("a");
    conffile_put_named_certificate("b", "DNS:b.example,DNS:www.b.example");
    conffile_put_named_certificate("b2", "DNS:B.example,DNS:www.b.example");
    conffile_put_named_certificate("c", "DNS:b.example,DNS:c.example");
#define SITES(more)                                                                                \
    "listen \"[::]:443\" {\ncertificate = \"a.crt\"\nprivate_key = \"a.key\"\n" more "}" REST
#define IDENTITY(name, crt, key)                                                                   \
    "identity \"" name "\" {\ncertificate = \"" crt "\"\nprivate_key = \"" key "\"\n}\n"
    check(SITES(IDENTITY("b", "b.crt", "a.key")),
        (struct want[]){ { 6, "is not the key of the certificate" } }, 1);
    check(SITES("identity \"b\" {\ncertificate = \"b.crt\"\n}\n"),
        (struct want[]){ { 4, "identity \"b\" has no private_key; name its file" } }, 1);
    check(SITES("identity \"b\" { }\n"),
        (struct want[]){ { 4, "has no certificate" }, { 4, "has no private_key" } }, 2);
    check(SITES(IDENTITY("b", "b.crt", "b.key") IDENTITY("b", "c.crt", "c.key")),
        (struct want[]){ { 8, "identity \"b\" stands twice" } }, 1);
    check(SITES(IDENTITY("b", "b.crt", "b.key") IDENTITY("b2", "b2.crt", "b2.key")),
        (struct want[]){ { 9, "stand in ECDSA certificates above already" } }, 1);
    check(SITES(IDENTITY("n", "a.crt", "a.key")),
        (struct want[]){ { 5, "has no DNS name (subjectAltName)" } }, 1);
    check(SITES("ocsp_staple = \"none\"\n"), (struct want[]){ { 4, "No such file" } }, 1);
    check("listen \"[::]:443\" {\n" IDENTITY("b", "b.crt", "b.key") "}" REST,
        (struct want[]){ { 2, "identity without a certificate of the listener itself" } }, 1);
    /* Some names in common are no mistake. */
    conf_unref(
        conffile_must_load(SITES(IDENTITY("b", "b.crt", "b.key") IDENTITY("c", "c.crt", "c.key"))));
}
END_TEST

START_TEST(options_of_tls_must_fit)
{
    conffile_put_certificate("a");
    check(SITES("client_certificate = \"required\"\n"),
        (struct want[]){ { 4, "client_certificate without client_ca_file" } }, 1);
    check(SITES("client_ca_file = \"a.crt\"\n"),
        (struct want[]){ { 4, "client_ca_file is of no use" } }, 1);
    check(SITES("client_certificate = \"optional\"\nclient_ca_file = \"a.key\"\n"),
        (struct want[]){ { 5, "no certificates in" } }, 1);
    check(SITES("client_certificate = \"requird\"\nclient_ca_file = \"a.crt\"\n"),
        (struct want[]){ { 4, "did you mean \"required\"?" } }, 1);
    check(SITES("tls_min_version = \"1.1\"\n"), (struct want[]){ { 4, "\"1.2\" or \"1.3\"" } }, 1);
    check("listen \"[::]:80\" {\nclient_ca_file = \"/x\"\nclient_certificate = \"required\"\n"
          "misdirected = \"serve\"\nocsp_staple = \"/x\"\ntls_min_version = \"1.3\"\n}" REST,
        (struct want[]){ { 2, "over TLS only" }, { 3, "over TLS only" }, { 4, "over TLS only" },
            { 5, "over TLS only" }, { 6, "over TLS only" } },
        5);
    check("listen \"[::]:80\" { proxy_protocol = true }" REST,
        (struct want[]){ { 1, "proxy_protocol without trusted_proxies" } }, 1);
    check("listen \"[::]:80\" { proxy_protocol_timeout = \"1s\" }" REST,
        (struct want[]){ { 1, "of no use without proxy_protocol" } }, 1);
    check("session_timeout = \"3h\" ticket_rotation = \"5m\"" REST,
        (struct want[]){ { 1, "more than 32 times ticket_rotation" } }, 1);
}
END_TEST

static const struct {
    const char *content, *part;
} secrets[] = {
    { "", "is empty" },
    { "\n", "is empty" },
    { "two words\n", "visible ASCII in one line (octet 4)" },
    { "two\nlines\n", "visible ASCII in one line (octet 4)" },
    { "\xc3\xa4\n", "visible ASCII" },
};

START_TEST(secrets_are_checked_and_never_shown)
{
    struct conf_errors e;

    conffile_put("secret", secrets[_i].content);
    ck_assert_ptr_null(conffile_load(
        "workers \"b\" { server \"127.0.0.1:1\" { }\nsecret_file = \"secret\" }" REST, &e));
    check_in(&e, conffile_path("t.conf"), &(struct want){ 2, secrets[_i].part }, 1);
    ck_assert_ptr_null(memmem(e.list[0].p, e.list[0].n, "lines", 5));
    conf_errors_release(&e);
}
END_TEST

/* The only thing wrong with a conf is a warning of that line. */
static void check_warning(const char *text, unsigned line, const char *part)
{
    struct conf_errors e;
    struct conf *c = conffile_load(text, &e);
    char begin[256];

    ck_assert_ptr_nonnull(c);
    ck_assert_uint_eq(e.count, 0);
    ck_assert_uint_eq(e.nwarnings, 1);
    snprintf(begin, sizeof(begin), "%s:%u: warning: ", conffile_path("t.conf"), line);
    if (!str_starts_with(e.warnings[0], str_of(begin)) ||
        !memmem(e.warnings[0].p, e.warnings[0].n, part, strlen(part)))
        ck_abort_msg("%s", e.warnings[0].p);
    conf_unref(c);
    conf_errors_release(&e);
}

START_TEST(warns_of_secrets_that_everybody_can_read)
{
    const char *path = conffile_put("secret", "a-secret\n");
    const char *text =
        "workers \"b\" { server \"127.0.0.1:1\" { }\nsecret_file = \"secret\" }" REST;

    ck_assert_int_eq(chmod(path, 0644), 0);
    check_warning(text, 2, "every account of this machine can read");
    ck_assert_int_eq(chmod(path, 0640), 0);
    conf_unref(conffile_must_load(text));
}
END_TEST

START_TEST(refuses_a_conf_that_everybody_can_write_when_started_as_root)
{
    struct conf_errors e;
    const char *path = conffile_put("t.conf", "user = \"nobody\"" REST);

    ck_assert_int_eq(chmod(path, 0666), 0);
    ck_assert_ptr_null(conf_load(path, &e));
    check_in(&e, path, &(struct want){ 1, "every account of this machine can write" }, 1);
    conf_errors_release(&e);
    path = conffile_put("t.conf", "" REST);
    conf_unref(conf_load(path, &e));
    ck_assert_uint_eq(e.count, 0);
    conf_errors_release(&e);
}
END_TEST

START_TEST(keys_in_set_header_are_never_shown)
{
    static const char *const wrong[] = { "Authorization Bearer sk-SECRET", "Host: sk-SECRET",
        "X: sk-SECRET\\n", "X sk-SECRET: y", "Tarry-X: sk-SECRET" };
    char text[256];

    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        struct conf_errors e;

        snprintf(text, sizeof(text),
            "upstream \"u\" { origin = \"https://a.b\" set_header = { \"%s\" } }" REST, wrong[i]);
        ck_assert_ptr_null(conffile_load(text, &e));
        ck_assert_uint_eq(e.count, 1);
        ck_assert_ptr_null(memmem(e.list[0].p, e.list[0].n, "SECRET", 6));
        conf_errors_release(&e);
    }
    check("upstream \"u\" { origin = \"https://user:SECRET@a.b\" }" REST,
        (struct want[]){ { 1, "has a user name; keys" } }, 1);
}
END_TEST

START_TEST(messages_hold_no_control_octets)
{
    struct conf_errors e;

    ck_assert_ptr_null(
        conffile_load("temp_dir = \"/\\e[31m\"\nlisten \"\\n\\r\\t:1\" { }" REST, &e));
    for (size_t i = 0; i < e.count; i++)
        for (size_t k = 0; k < e.list[i].n; k++)
            ck_assert_uint_ge((unsigned char)e.list[i].p[k], 0x20);
    conf_errors_release(&e);
}
END_TEST

START_TEST(bounds_what_it_reads)
{
    struct conf_errors e;
    char *big = malloc(SCAN_FILE_MAX + 2);
    size_t n = 0;

    memset(big, '#', SCAN_FILE_MAX + 1);
    big[SCAN_FILE_MAX + 1] = '\0';
    check(big, (struct want[]){ { 1, "larger than 1 MiB" } }, 1);
    while (n + 16 < SCAN_FILE_MAX)
        n += (size_t)sprintf(big + n, "log { }\n");
    ck_assert_ptr_null(conffile_load(big, &e));
    ck_assert_uint_gt(e.count, 1);
    ck_assert_uint_le(e.count, 1100);
    conf_errors_release(&e);
    for (n = 0; n + 32 < SCAN_FILE_MAX / 2;)
        n += (size_t)sprintf(big + n, "route \"/%zu\" { }\n", n);
    ck_assert_ptr_null(conffile_load(big, &e));
    conf_errors_release(&e);
    /* Each file includes the next one twice: 2^10 files if nothing stopped it. */
    memset(big, '#', 100000);
    for (int i = 0; i < 12; i++) {
        char name[16];

        snprintf(name, sizeof(name), "%d", i);
        sprintf(big + 100000, "\ninclude(\"%d\")\ninclude(\"%d\")\n", i + 1, i + 1);
        conffile_put(name, big);
    }
    ck_assert_ptr_null(conf_load(conffile_path("0"), &e));
    ck_assert_uint_gt(e.count, 0);
    conf_errors_release(&e);
    free(big);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("mistakes");

    tcase_add_checked_fixture(t, conffile_open, conffile_close);
    tcase_add_loop_test(t, names_the_mistake, 0, COUNT_OF(rows));
    tcase_add_test(t, names_all_mistakes_in_the_order_of_the_file);
    tcase_add_test(t, reads_on_behind_broken_syntax);
    tcase_add_test(t, a_file_that_cannot_be_read_is_named);
    tcase_add_test(t, certificates_and_keys_must_fit);
    tcase_add_test(t, identities_must_be_of_use);
    tcase_add_test(t, options_of_tls_must_fit);
    tcase_add_loop_test(t, secrets_are_checked_and_never_shown, 0, COUNT_OF(secrets));
    tcase_add_test(t, warns_of_secrets_that_everybody_can_read);
    tcase_add_test(t, refuses_a_conf_that_everybody_can_write_when_started_as_root);
    tcase_add_test(t, keys_in_set_header_are_never_shown);
    tcase_add_test(t, messages_hold_no_control_octets);
    tcase_add_test(t, bounds_what_it_reads);
    return t;
}

UNIT_MAIN("conf_mistakes")
