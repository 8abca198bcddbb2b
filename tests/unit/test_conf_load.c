/* Confs without mistakes: what is written arrives, and what is not written has its default. */
#include "conf/load.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

#include "conffile.h"
#include "unit.h"

#define SMALL                                                                                      \
    "listen \"127.0.0.1:8080\" { }\n"                                                              \
    "workers \"app\" { server \"127.0.0.1:8001\" { } }\n"                                          \
    "upstream \"ai\" { origin = \"https://api.example.com\" }\n"                                   \
    "route \"/\" { workers = \"app\" }\n"

START_TEST(has_defaults)
{
    struct conf *c = conffile_must_load(SMALL);
    const struct pool_conf *p = &c->pools[0];
    const struct upstream_conf *u = &c->upstreams[0];

    ck_assert_uint_eq(c->refs, 1);
    ck_assert_span_eq(c->file, conffile_path("t.conf"));
    ck_assert_uint_eq(c->processes, 1);
    ck_assert_span_eq(c->user, "");
    ck_assert_span_eq(c->group, "");
    ck_assert(!c->core_dumps);
    ck_assert_int_eq(c->seccomp, SANDBOX_AUTO);
    ck_assert_int_eq(c->landlock, SANDBOX_AUTO);
    ck_assert_span_eq(c->temp_dir, "/var/tmp");
    ck_assert_uint_eq(c->max_connections, 100000);
    ck_assert_uint_eq(c->address_connections_max, 0);
    ck_assert_uint_eq(c->address_newcomers_max, 500);
    ck_assert(!c->address_limit_loopback);
    ck_assert_uint_eq(c->connection_requests_max, 0);
    ck_assert_uint_eq(c->header_max, 32768);
    ck_assert_uint_eq(c->header_fields_max, 100);
    ck_assert_uint_eq(c->target_max, 8192);
    ck_assert_uint_eq(c->body_max, 100 << 20);
    ck_assert_uint_eq(c->body_memory_max, 65536);
    ck_assert_uint_eq(c->header_timeout_ms, 30000);
    ck_assert_uint_eq(c->body_timeout_ms, 60000);
    ck_assert_uint_eq(c->send_timeout_ms, 60000);
    ck_assert_uint_eq(c->body_rate_min, 256);
    ck_assert_uint_eq(c->send_rate_min, 256);
    ck_assert_uint_eq(c->rate_window_ms, 60000);
    ck_assert_uint_eq(c->linger_timeout_ms, 2000);
    ck_assert_uint_eq(c->interim_max, 16);
    ck_assert_uint_eq(c->chunk_line_max, 4096);
    ck_assert_uint_eq(c->chunk_overhead_max, 65536);
    ck_assert_uint_eq(c->output_max, 65536);
    ck_assert_uint_eq(c->admin_connections_max, 64);
    ck_assert_uint_eq(c->admin_timeout_ms, 10000);
    ck_assert_uint_eq(c->admin_keep_alive_timeout_ms, 60000);
    ck_assert_uint_eq(c->keep_alive_timeout_ms, 75000);
    ck_assert_uint_eq(c->shutdown_timeout_ms, 300000);
    ck_assert_uint_eq(c->ntrusted_proxies, 0);
    ck_assert_int_eq(c->underscore_headers, UNDERSCORE_DROP);
    ck_assert_int_eq(c->log_level, LEVEL_INFO);
    ck_assert_int_eq(c->log.kind, LOG_TO_STDERR);
    ck_assert_int_eq(c->access_log.kind, LOG_TO_NOWHERE);
    ck_assert_uint_eq(c->compression.ntypes, 0);
    ck_assert_uint_eq(c->nlistens, 1);
    ck_assert_uint_eq(c->listens[0].backlog, 4096);
    ck_assert_uint_eq(c->listens[0].certificate.n, 0);
    ck_assert_uint_eq(c->listens[0].line, 1);
    ck_assert_uint_eq(c->nadmins, 0);

    ck_assert_uint_eq(p->nservers, 1);
    ck_assert_uint_eq(p->servers[0].slots, 1);
    ck_assert_uint_eq(p->line, 2);
    ck_assert_uint_eq(p->queue_max, 10000);
    ck_assert_uint_eq(p->queue_address_share, 100);
    ck_assert_uint_eq(p->queue_timeout_ms, 30000);
    ck_assert_uint_eq(p->connect_timeout_ms, 5000);
    ck_assert_uint_eq(p->response_timeout_ms, 60000);
    ck_assert_uint_eq(p->abandoned_timeout_ms, 60000);
    ck_assert_uint_eq(p->unreachable_first_pause_ms, 100);
    ck_assert_uint_eq(p->unreachable_max_pause_ms, 10000);
    ck_assert_uint_eq(p->keep_alive_timeout_ms, 60000);
    ck_assert(!p->retry_idempotent);
    ck_assert_uint_eq(p->secret.n, 0);
    ck_assert_uint_eq(p->replay_body_max, 10 << 20);
    ck_assert_uint_eq(p->call_max, 32 << 20);
    ck_assert_uint_eq(p->handoff_max, 128 << 20);
    ck_assert_uint_eq(p->spool_max, 1 << 30);
    ck_assert_uint_eq(p->state_max, 8000);
    ck_assert_uint_eq(p->max_calls, 64);
    ck_assert_uint_eq(p->max_hops, 64);
    ck_assert_uint_eq(p->resume_attempts, 3);
    ck_assert_uint_eq(p->resume_wait_ms, 60000);
    ck_assert_uint_eq(p->notify_attempts, 8);
    ck_assert_uint_eq(p->tunnel_idle_timeout_ms, 300000);
    ck_assert_uint_eq(p->notify_first_pause_ms, 1000);
    ck_assert_uint_eq(p->notify_max_pause_ms, 600000);
    ck_assert_uint_eq(p->keep_alive_interval_ms, 15000);

    ck_assert_uint_eq(u->connect_timeout_ms, 5000);
    ck_assert_uint_eq(u->first_byte_timeout_ms, 120000);
    ck_assert_uint_eq(u->idle_timeout_ms, 60000);
    ck_assert_uint_eq(u->total_timeout_ms, 600000);
    ck_assert_uint_eq(u->retries, 2);
    ck_assert_uint_eq(u->retry_first_pause_ms, 500);
    ck_assert_uint_eq(u->retry_max_pause_ms, 8000);
    ck_assert_uint_eq(u->response_max, 32 << 20);
    ck_assert_uint_eq(u->max_connections, 256);
    ck_assert_uint_eq(u->keep_alive_timeout_ms, 90000);
    ck_assert_uint_eq(u->ping_interval_ms, 15000);
    ck_assert_uint_eq(u->ping_timeout_ms, 10000);
    ck_assert_uint_eq(u->own.ca_file.n, 0);
    ck_assert(u->own.http2);
    ck_assert(!u->own.insecure);
    ck_assert_uint_eq(u->own.nset_header + u->nrelay_headers, 0);

    ck_assert_ptr_eq(c->routes[0].pool, p);
    ck_assert_ptr_null(c->routes[0].upstream);
    ck_assert(!c->routes[0].internal);
    ck_assert_uint_eq(c->routes[0].host.n, 0);
    conf_unref(c);
}
END_TEST

START_TEST(reads_the_global_options)
{
    struct conf *c = conffile_must_load(
        "processes = 4\nmax_connections = 7\nheader_max = \"16K\"\n"
        "address_connections_max = 9\naddress_newcomers_max = 8\naddress_limit_loopback = true\n"
        "user = \"root\"\ngroup = \"root\"\ncore_dumps = true\nseccomp = \"off\"\n"
        "landlock = \"required\"\n"
        "connection_requests_max = 6\nbody_rate_min = \"1K\"\nsend_rate_min = \"2K\"\n"
        "rate_window = \"5s\"\nlinger_timeout = \"0ms\"\ninterim_max = 0\nchunk_line_max = 64\n"
        "chunk_overhead_max = \"1K\"\noutput_max = \"8K\"\nadmin_connections_max = 2\n"
        "admin_timeout = \"6s\"\nadmin_keep_alive_timeout = \"7s\"\n"
        "header_fields_max = 50\ntarget_max = 4096\nbody_max = \"0\"\n"
        "body_memory_max = \"1M\"\nheader_timeout = \"1s\"\nbody_timeout = \"2s\"\n"
        "send_timeout = \"3s\"\nkeep_alive_timeout = \"4s\"\n"
        "shutdown_timeout = \"0s\"\ntemp_dir = \"/tmp\"\n"
        "trusted_proxies = { \"10.0.0.0/8\", \"::1\", \"unix\" } underscore_headers = \"pass\"\n"
        "log { level = \"debug\" target = \"syslog\" }\n"
        "access_log { target = \"./a.log\" format = \"logfmt\" }\n" SMALL);

    ck_assert_span_eq(c->user, "root");
    ck_assert_span_eq(c->group, "root");
    ck_assert(c->core_dumps);
    ck_assert_int_eq(c->seccomp, SANDBOX_OFF);
    ck_assert_int_eq(c->landlock, SANDBOX_REQUIRED);
    ck_assert_uint_eq(c->processes, 4);
    ck_assert_uint_eq(c->max_connections, 7);
    ck_assert_uint_eq(c->address_connections_max, 9);
    ck_assert_uint_eq(c->address_newcomers_max, 8);
    ck_assert(c->address_limit_loopback);
    ck_assert_uint_eq(c->connection_requests_max, 6);
    ck_assert_uint_eq(c->header_max, 16384);
    ck_assert_uint_eq(c->header_fields_max, 50);
    ck_assert_uint_eq(c->target_max, 4096);
    ck_assert_uint_eq(c->body_max, 0);
    ck_assert_uint_eq(c->body_memory_max, 1 << 20);
    ck_assert_uint_eq(c->header_timeout_ms, 1000);
    ck_assert_uint_eq(c->body_timeout_ms, 2000);
    ck_assert_uint_eq(c->send_timeout_ms, 3000);
    ck_assert_uint_eq(c->body_rate_min, 1024);
    ck_assert_uint_eq(c->send_rate_min, 2048);
    ck_assert_uint_eq(c->rate_window_ms, 5000);
    ck_assert_uint_eq(c->linger_timeout_ms, 0);
    ck_assert_uint_eq(c->interim_max, 0);
    ck_assert_uint_eq(c->chunk_line_max, 64);
    ck_assert_uint_eq(c->chunk_overhead_max, 1024);
    ck_assert_uint_eq(c->output_max, 8192);
    ck_assert_uint_eq(c->admin_connections_max, 2);
    ck_assert_uint_eq(c->admin_timeout_ms, 6000);
    ck_assert_uint_eq(c->admin_keep_alive_timeout_ms, 7000);
    ck_assert_uint_eq(c->keep_alive_timeout_ms, 4000);
    ck_assert_uint_eq(c->shutdown_timeout_ms, 0);
    ck_assert_span_eq(c->temp_dir, "/tmp");
    ck_assert_uint_eq(c->ntrusted_proxies, 3);
    ck_assert_int_eq(c->underscore_headers, UNDERSCORE_PASS);
    ck_assert_int_eq(c->log_level, LEVEL_DEBUG);
    ck_assert_int_eq(c->log.kind, LOG_TO_SYSLOG);
    ck_assert_int_eq(c->access_log.kind, LOG_TO_FILE);
    ck_assert_span_eq(c->access_log.path, conffile_path("./a.log"));
    ck_assert_int_eq(c->access_format, ACCESS_LOGFMT);
    conf_unref(c);
}
END_TEST

START_TEST(reads_compression)
{
    struct conf *c =
        conffile_must_load("compression { types = { \"Text/*\", \"application/JSON\" } }\n" SMALL);
    const struct compression_conf *cc = &c->compression;

    ck_assert_uint_eq(cc->ntypes, 2);
    ck_assert_span_eq(cc->types[0], "text/");
    ck_assert_span_eq(cc->types[1], "application/json");
    ck_assert_uint_eq(cc->nencodings, 3);
    ck_assert_int_eq(cc->encodings[0], ENCODING_ZSTD);
    ck_assert_int_eq(cc->encodings[1], ENCODING_BR);
    ck_assert_int_eq(cc->encodings[2], ENCODING_GZIP);
    ck_assert_uint_eq(cc->min_size, 1024);
    ck_assert_uint_eq(cc->window, 128 << 10);
    ck_assert_uint_eq(cc->memory_max, 128 << 20);
    ck_assert_uint_eq(cc->gzip_level, 5);
    ck_assert_uint_eq(cc->brotli_level, 4);
    ck_assert_uint_eq(cc->zstd_level, 2);
    conf_unref(c);
    c = conffile_must_load(
        "compression { types = { \"text/css\" } encodings = { \"gzip\" } }\n" SMALL);
    ck_assert_uint_eq(c->compression.nencodings, 1);
    ck_assert_int_eq(c->compression.encodings[0], ENCODING_GZIP);
    conf_unref(c);
}
END_TEST

START_TEST(reads_a_pool)
{
    struct conf *c;
    const struct pool_conf *p;

    conffile_put("secret", "s3cret!\r\n");
    c = conffile_must_load(
        "listen \"127.0.0.1:1\" { }\nroute \"/\" { workers = \"my.app-1\" }\nworkers \"my.app-1\" "
        "{\n"
        "server \"unix:/run/a.sock\" { slots = 5 }\nserver \"[::1]:8001\" { }\n"
        "abandoned_timeout = \"0ms\" unreachable_first_pause = \"2s\" unreachable_max_pause = "
        "\"3s\" "
        "queue_max = 0 queue_address_share = 7 queue_timeout = \"1s\" connect_timeout = \"2s\" "
        "response_timeout = \"3s\"\n"
        "keep_alive_timeout = \"4s\" retry_idempotent = true secret_file = \"secret\"\n"
        "replay_body_max = \"1K\" call_max = \"2K\" handoff_max = \"3K\" state_max = 100 spool_max "
        "= \"1M\"\n"
        "max_calls = 3 max_hops = 4 resume_attempts = 5 resume_wait = \"0s\"\n"
        "notify_attempts = 7 notify_first_pause = \"8s\" notify_max_pause = \"9s\"\n"
        "keep_alive_interval = \"10ms\"\n}\n");
    p = conf_find_pool(c, STR("my.app-1"));
    ck_assert_ptr_nonnull(p);
    ck_assert_uint_eq(p->nservers, 2);
    ck_assert_uint_eq(p->servers[0].slots, 5);
    ck_assert_uint_eq(p->servers[1].line, 5);
    ck_assert_uint_eq(p->queue_max, 0);
    ck_assert_uint_eq(p->queue_timeout_ms, 1000);
    ck_assert_uint_eq(p->connect_timeout_ms, 2000);
    ck_assert_uint_eq(p->response_timeout_ms, 3000);
    ck_assert_uint_eq(p->abandoned_timeout_ms, 0);
    ck_assert_uint_eq(p->queue_address_share, 7);
    ck_assert_uint_eq(p->unreachable_first_pause_ms, 2000);
    ck_assert_uint_eq(p->unreachable_max_pause_ms, 3000);
    ck_assert_uint_eq(p->keep_alive_timeout_ms, 4000);
    ck_assert(p->retry_idempotent);
    ck_assert_span_eq(p->secret, "s3cret!");
    ck_assert_uint_eq(p->replay_body_max, 1024);
    ck_assert_uint_eq(p->call_max, 2048);
    ck_assert_uint_eq(p->handoff_max, 3072);
    ck_assert_uint_eq(p->state_max, 100);
    ck_assert_uint_eq(p->spool_max, 1 << 20);
    ck_assert_uint_eq(p->max_calls, 3);
    ck_assert_uint_eq(p->max_hops, 4);
    ck_assert_uint_eq(p->resume_attempts, 5);
    ck_assert_uint_eq(p->resume_wait_ms, 0);
    ck_assert_uint_eq(p->notify_attempts, 7);
    ck_assert_uint_eq(p->notify_first_pause_ms, 8000);
    ck_assert_uint_eq(p->notify_max_pause_ms, 9000);
    ck_assert_uint_eq(p->keep_alive_interval_ms, 10);
    conf_unref(c);
}
END_TEST

START_TEST(reads_an_upstream)
{
    struct conf *c;
    const struct upstream_conf *u;

    conffile_put_certificate("ca");
    c = conffile_must_load(
        "listen \"127.0.0.1:1\" { }\nroute \"/v1/\" { host = \"LLM.Example.com\" upstream = \"ai\" "
        "}\n"
        "upstream \"ai\" { origin = \"HTTPS://API.Example.com:8443/\"\n"
        "set_header = { \"Authorization: Bearer a:b\", \"X-Empty:\" }\n"
        "relay_headers = { \"X-Request-ID\" }\n"
        "connect_timeout = \"1s\" first_byte_timeout = \"2s\" idle_timeout = \"3s\"\n"
        "total_timeout = \"4s\" retries = 0 retry_first_pause = \"5ms\" retry_max_pause = \"6s\"\n"
        "response_max = \"7K\" max_connections = 8 keep_alive_timeout = \"9s\"\n"
        "ping_interval = \"10s\" ping_timeout = \"11s\" ca_file = \"ca.crt\" http2 = false }\n");
    u = conf_find_upstream(c, STR("ai"));
    ck_assert_ptr_nonnull(u);
    ck_assert_span_eq(u->own.origin, "https://api.example.com:8443");
    ck_assert_span_eq(u->own.host, "api.example.com");
    ck_assert_uint_eq(u->own.port, 8443);
    ck_assert(u->own.tls);
    ck_assert_uint_eq(u->own.nset_header, 2);
    ck_assert_span_eq(u->own.set_header[0].name, "Authorization");
    ck_assert_span_eq(u->own.set_header[0].value, "Bearer a:b");
    ck_assert_span_eq(u->own.set_header[1].value, "");
    ck_assert_uint_eq(u->nrelay_headers, 1);
    ck_assert_span_eq(u->relay_headers[0], "x-request-id");
    ck_assert_uint_eq(u->connect_timeout_ms, 1000);
    ck_assert_uint_eq(u->first_byte_timeout_ms, 2000);
    ck_assert_uint_eq(u->idle_timeout_ms, 3000);
    ck_assert_uint_eq(u->total_timeout_ms, 4000);
    ck_assert_uint_eq(u->retries, 0);
    ck_assert_uint_eq(u->retry_first_pause_ms, 5);
    ck_assert_uint_eq(u->retry_max_pause_ms, 6000);
    ck_assert_uint_eq(u->response_max, 7168);
    ck_assert_uint_eq(u->max_connections, 8);
    ck_assert_uint_eq(u->keep_alive_timeout_ms, 9000);
    ck_assert_uint_eq(u->ping_interval_ms, 10000);
    ck_assert_uint_eq(u->ping_timeout_ms, 11000);
    ck_assert_span_eq(u->own.ca_file, conffile_path("ca.crt"));
    ck_assert(!u->own.http2);
    ck_assert_ptr_eq(c->routes[0].upstream, u);
    ck_assert_span_eq(c->routes[0].host, "llm.example.com");
    conf_unref(c);
}
END_TEST

static const struct {
    const char *in, *origin, *host;
    bool tls, ipv6;
    unsigned port;
} origins[] = {
    { "https://a.example", "https://a.example", "a.example", true, false, 443 },
    { "https://a.example:443/", "https://a.example", "a.example", true, false, 443 },
    { "http://localhost", "http://localhost", "localhost", false, false, 80 },
    { "http://127.0.0.1:80", "http://127.0.0.1", "127.0.0.1", false, false, 80 },
    { "http://10.1.2.3:8000", "http://10.1.2.3:8000", "10.1.2.3", false, false, 8000 },
    { "http://172.31.0.1", "http://172.31.0.1", "172.31.0.1", false, false, 80 },
    { "http://192.168.0.1", "http://192.168.0.1", "192.168.0.1", false, false, 80 },
    { "http://169.254.1.1", "http://169.254.1.1", "169.254.1.1", false, false, 80 },
    { "http://[0:0::1]:81", "http://[::1]:81", "::1", false, true, 81 },
    { "http://[FD00::0001]", "http://[fd00::1]", "fd00::1", false, true, 80 },
    { "https://[2001:DB8::1]:443", "https://[2001:db8::1]", "2001:db8::1", true, true, 443 },
};

START_TEST(normalises_origins)
{
    char text[512];
    struct conf *c;
    const struct upstream_conf *u;

    snprintf(text, sizeof(text),
        "listen \"127.0.0.1:1\" { }\nroute \"/\" { upstream = \"u\" }\nupstream \"u\" { origin = "
        "\"%s\" }\n",
        origins[_i].in);
    c = conffile_must_load(text);
    u = &c->upstreams[0];
    ck_assert_span_eq(u->own.origin, origins[_i].origin);
    ck_assert_span_eq(u->own.host, origins[_i].host);
    ck_assert_int_eq(u->own.tls, origins[_i].tls);
    ck_assert_int_eq(u->own.ipv6, origins[_i].ipv6);
    ck_assert_uint_eq(u->own.port, origins[_i].port);
    conf_unref(c);
}
END_TEST

START_TEST(allows_plain_http_anywhere_if_told_so)
{
    struct conf *c = conffile_must_load(
        "listen \"127.0.0.1:1\" { }\nroute \"/\" { upstream = \"u\" }\n"
        "upstream \"u\" { origin = \"http://api.example.com\" insecure = true }\n");

    ck_assert(!c->upstreams[0].own.tls);
    conf_unref(c);
}
END_TEST

START_TEST(reads_addresses)
{
    struct conf *c = conffile_must_load(
        "listen \"0.0.0.0:80\" { backlog = 5 }\nlisten \"[::]:8443\" { }\n"
        "listen \"LocalHost:81\" { }\nlisten \"unix:/tmp/x.sock\" { }\n"
        "listen \"unix:rel.sock\" { }\nadmin \"127.0.0.1:9180\" { }\n"
        "workers \"a\" { server \"localhost:1\" { } }\nroute \"/\" { workers = \"a\" }\n");
    const struct sockaddr_in *in;
    const struct sockaddr_in6 *in6;
    const struct sockaddr_un *un;

    ck_assert_uint_eq(c->nlistens, 5);
    in = (const void *)&c->listens[0].addr.sa;
    ck_assert_int_eq(in->sin_family, AF_INET);
    ck_assert_uint_eq(ntohs(in->sin_port), 80);
    ck_assert_uint_eq(in->sin_addr.s_addr, INADDR_ANY);
    ck_assert_uint_eq(c->listens[0].addr.salen, sizeof(*in));
    ck_assert_uint_eq(c->listens[0].backlog, 5);
    in6 = (const void *)&c->listens[1].addr.sa;
    ck_assert_int_eq(in6->sin6_family, AF_INET6);
    ck_assert_uint_eq(ntohs(in6->sin6_port), 8443);
    ck_assert_span_eq(c->listens[1].addr.text, "[::]:8443");
    in = (const void *)&c->listens[2].addr.sa;
    ck_assert_uint_eq(ntohl(in->sin_addr.s_addr), INADDR_LOOPBACK);
    ck_assert_span_eq(c->listens[2].addr.text, "LocalHost:81");
    un = (const void *)&c->listens[3].addr.sa;
    ck_assert_int_eq(un->sun_family, AF_UNIX);
    ck_assert_str_eq(un->sun_path, "/tmp/x.sock");
    un = (const void *)&c->listens[4].addr.sa;
    ck_assert_str_eq(un->sun_path, conffile_path("rel.sock"));
    ck_assert_uint_eq(c->nadmins, 1);
    ck_assert_span_eq(c->admins[0].addr.text, "127.0.0.1:9180");
    conf_unref(c);
}
END_TEST

START_TEST(makes_servers_of_a_count)
{
    struct conf *c = conffile_must_load("workers \"app\" {\n"
                                        "server \"unix:/run/%d.sock\" { count = 3  slots = 2 }\n"
                                        "server \"app.lan:8001\" { slots = 5 }\n"
                                        "server \"unix:/run/b%d\" { count = 2  first = 7 }\n}\n"
                                        "route \"/\" { workers = \"app\" }\n"
                                        "listen \"*:8080\" { }\n");
    static const char *const want[] = { "unix:/run/0.sock", "unix:/run/1.sock", "unix:/run/2.sock",
        "app.lan:8001", "unix:/run/b7", "unix:/run/b8" };
    const struct pool_conf *p = &c->pools[0];
    const struct sockaddr_in6 *any = (const void *)&c->listens[0].addr.sa;

    ck_assert_uint_eq(p->nservers, COUNT_OF(want));
    for (size_t i = 0; i < p->nservers; i++) {
        const struct addr_conf *a = &p->servers[i].addr;

        ck_assert_span_eq(a->text, want[i]);
        if (a->salen > 0)
            ck_assert_str_eq(
                ((const struct sockaddr_un *)(const void *)&a->sa)->sun_path, want[i] + 5);
    }
    ck_assert_uint_eq(p->servers[2].slots, 2);
    ck_assert_span_eq(p->servers[3].addr.host, "app.lan");
    ck_assert_uint_eq(p->servers[3].addr.port, 8001);
    ck_assert_uint_eq(p->servers[4].slots, 1);
    ck_assert_span_eq(c->listens[0].addr.text, "*:8080");
    ck_assert_int_eq(any->sin6_family, AF_INET6);
    ck_assert(!c->listens[0].addr.ipv6_only);
    conf_unref(c);
}
END_TEST

START_TEST(reads_certificates)
{
    struct conf *c;

    conffile_put_certificate("site");
    c = conffile_must_load(
        "listen \"[::1]:8443\" { certificate = \"site.crt\" private_key = \"site.key\" }\n"
        "workers \"a\" { server \"localhost:1\" { } }\nroute \"/\" { workers = \"a\" }\n");
    ck_assert_span_eq(c->listens[0].certificate, conffile_path("site.crt"));
    ck_assert_span_eq(c->listens[0].private_key, conffile_path("site.key"));
    conf_unref(c);
}
END_TEST

START_TEST(replaces_variables_inside_double_quotes)
{
    struct conf *c;

    setenv("TARRY_TEST_KEY", "k\"\\${x} #{", 1);
    setenv("TARRY_TEST_EMPTY", "", 1);
    c = conffile_must_load(
        "listen \"127.0.0.1:1\" { }\nroute \"/\" { upstream = \"u\" }\n"
        "upstream \"u\" { origin = \"https://a.example\" set_header = {\n"
        "\"A: <${TARRY_TEST_KEY}>\", 'B: ${TARRY_TEST_KEY}', \"C: \\${TARRY_TEST_KEY}\",\n"
        "\"D: <${TARRY_TEST_EMPTY}>\", \"E: ${TARRY_TEST_UNSET:-other}\", \"F: $1 $\" } }\n");
    ck_assert_span_eq(c->upstreams[0].own.set_header[0].value, "<k\"\\${x} #{>");
    ck_assert_span_eq(c->upstreams[0].own.set_header[1].value, "${TARRY_TEST_KEY}");
    ck_assert_span_eq(c->upstreams[0].own.set_header[2].value, "${TARRY_TEST_KEY}");
    ck_assert_span_eq(c->upstreams[0].own.set_header[3].value, "<>");
    ck_assert_span_eq(c->upstreams[0].own.set_header[4].value, "other");
    ck_assert_span_eq(c->upstreams[0].own.set_header[5].value, "$1 $");
    conf_unref(c);
}
END_TEST

START_TEST(understands_the_forms_of_the_language)
{
    struct conf *c =
        conffile_must_load("\xef\xbb\xbf# a comment\r\n"
                           "// another\r\n/* one\n over lines */ processes = 2 // behind\n"
                           "max_connections=5 body_max='1K' target_max=\"1\\x4b\"\n"
                           "header_timeout = 5s header_max =\n\"4\\113\"\n"
                           "trusted_proxies += \"10.0.0.0/8\" trusted_proxies += { 192.0.2.1, }\n"
                           "temp_dir = \"/t\\\nmp\"\n"
                           "listen 127.0.0.1:80 {} listen [::1]:80\n{}\n"
                           "workers app { server unix:/x { slots=2 } retry_idempotent = yes }\n"
                           "upstream u { origin = http://127.0.0.1:81/ http2 = off }\n"
                           "route / { workers = app } route /v1/ { upstream = u }");

    ck_assert_uint_eq(c->processes, 2);
    ck_assert_uint_eq(c->max_connections, 5);
    ck_assert_uint_eq(c->body_max, 1024);
    ck_assert_uint_eq(c->target_max, 1024);
    ck_assert_uint_eq(c->header_timeout_ms, 5000);
    ck_assert_uint_eq(c->header_max, 4096);
    ck_assert_uint_eq(c->ntrusted_proxies, 2);
    ck_assert_span_eq(c->temp_dir, "/tmp");
    ck_assert_uint_eq(c->nlistens, 2);
    ck_assert(c->pools[0].retry_idempotent);
    ck_assert(!c->upstreams[0].own.http2);
    ck_assert_uint_eq(c->nroutes, 2);
    conf_unref(c);
}
END_TEST

START_TEST(includes_files_in_place)
{
    struct conf *c;

    conffile_put(
        "servers.conf", "server \"127.0.0.1:1\" { }\nserver \"127.0.0.1:2\" { slots = 3 }\n");
    conffile_put("routes.conf", "route \"/\" { workers = \"a\" }\ninclude(\"more.conf\")");
    conffile_put("more.conf", "route \"/x/\" { workers = \"a\" }\n");
    c = conffile_must_load("listen \"127.0.0.1:80\" { }\nworkers \"a\" {\n  "
                           "include(\"servers.conf\")\n  max_hops = 3\n}\n"
                           "include(\"routes.conf\")\nprocesses = 2\n");
    ck_assert_uint_eq(c->pools[0].nservers, 2);
    ck_assert_uint_eq(c->pools[0].servers[1].slots, 3);
    ck_assert_uint_eq(c->pools[0].servers[1].line, 2);
    ck_assert_uint_eq(c->pools[0].max_hops, 3);
    ck_assert_uint_eq(c->nroutes, 2);
    ck_assert_uint_eq(c->processes, 2);
    conf_unref(c);
}
END_TEST

/* A program writes the conf and ends it with its user's file. */
START_TEST(an_override_replaces_what_stands_above)
{
    struct conf *c;

    conffile_put("own.conf",
        "shutdown_timeout = \"7s\" trusted_proxies = { \"10.0.0.0/8\" }\n"
        "log { level = \"debug\" }\n"
        "workers \"a\" { queue_max = 3 server \"127.0.0.1:2\" { } }\n"
        "upstream \"openai\" { retries = 7 }\n"
        "upstream \"mine\" { origin = \"https://b.example\" set_header = { \"A: b\" } }\n"
        "route \"/\" { host = \"x.example\" workers = \"a\" }\n"
        "route \"/\" { workers = \"a\" internal = true }\n");
    c = conffile_must_load(
        "shutdown_timeout = \"1s\" trusted_proxies = { \"::1\", \"unix\" } max_connections = 77\n"
        "log { level = \"error\" target = \"syslog\" }\n"
        "listen \"127.0.0.1:80\" { }\n"
        "workers \"a\" { server \"127.0.0.1:1\" { } queue_max = 1 queue_timeout = \"9s\" }\n"
        "upstream \"other\" { origin = \"https://b.example\" }\n"
        "upstream \"openai\" { origin = \"https://a.example\" retries = 1 }\n"
        "route \"/\" { workers = \"a\" }\n"
        "override(\"own.conf\")\n");
    ck_assert_uint_eq(c->shutdown_timeout_ms, 7000);
    ck_assert_uint_eq(c->ntrusted_proxies, 1);
    ck_assert_uint_eq(c->max_connections, 77);
    ck_assert_int_eq(c->log_level, LEVEL_DEBUG);
    ck_assert_int_eq(c->log.kind, LOG_TO_SYSLOG);
    ck_assert_uint_eq(c->npools, 1);
    ck_assert_uint_eq(c->pools[0].queue_max, 3);
    ck_assert_uint_eq(c->pools[0].queue_timeout_ms, 9000);
    ck_assert_uint_eq(c->pools[0].nservers, 2);
    ck_assert_uint_eq(c->nupstreams, 2);
    ck_assert_str_eq(c->upstreams[0].name.p, "openai");
    ck_assert_uint_eq(c->upstreams[0].retries, 7);
    ck_assert_str_eq(c->upstreams[1].name.p, "mine");
    ck_assert_uint_eq(c->nroutes, 2);
    ck_assert_str_eq(c->routes[0].host.p, "x.example");
    ck_assert(!c->routes[0].internal && c->routes[1].internal);
    conf_unref(c);
}
END_TEST

START_TEST(defaults_give_way_to_what_is_written)
{
    struct conf *c = conffile_must_load(
        "listen \"127.0.0.1:80\" { }\nroute \"/\" { workers = \"a\" }\n"
        "workers \"a\" { server \"127.0.0.1:1\" { } call_max = \"1G\"\n"
        "notify_max_pause = \"100ms\" }\n"
        "upstream \"u\" { origin = \"https://a.example\" total_timeout = \"1s\"\n"
        "retry_max_pause = \"100ms\" }\n");

    ck_assert_uint_ge(c->pools[0].handoff_max, c->pools[0].call_max + 1024);
    ck_assert_uint_eq(c->pools[0].notify_first_pause_ms, 100);
    ck_assert_uint_eq(c->upstreams[0].connect_timeout_ms, 1000);
    ck_assert_uint_eq(c->upstreams[0].retry_first_pause_ms, 100);
    conf_unref(c);
}
END_TEST

START_TEST(takes_variables_from_env_file_and_values_from_files)
{
    struct conf_errors e;
    struct conf *c;

    conffile_put("environment",
        "# keys\n; more\n\nTARRY_A=plain\r\nexport TARRY_B = \"two words\"\n"
        "TARRY_C='$x'\nTARRY_TEST_KEY=from the file\n");
    conffile_put("token", "s3cret\n");
    setenv("TARRY_TEST_KEY", "from the environment", 1);
    c = conffile_must_load(
        "env_file = \"environment\"\nlisten \"127.0.0.1:80\" { }\nupstream \"a\" {\n"
        "origin = \"https://a.example\"\nset_header = { \"A: ${TARRY_A}\", \"B: ${TARRY_B}\",\n"
        "\"C: ${TARRY_C}\", \"D: ${TARRY_TEST_KEY}\", \"E: Bearer ${file:token}\" } }\n"
        "route \"/\" { upstream = \"a\" }\n");
    ck_assert(str_eq(c->upstreams[0].own.set_header[0].value, STR("plain")));
    ck_assert(str_eq(c->upstreams[0].own.set_header[1].value, STR("two words")));
    ck_assert(str_eq(c->upstreams[0].own.set_header[2].value, STR("$x")));
    ck_assert(str_eq(c->upstreams[0].own.set_header[3].value, STR("from the file")));
    ck_assert(str_eq(c->upstreams[0].own.set_header[4].value, STR("Bearer s3cret")));
    conf_unref(c);
    ck_assert_ptr_null(conffile_load("\nlisten \"${file:nothing-here}\" { }\n", &e));
    ck_assert_ptr_nonnull(strstr(e.list[e.count - 1].p, ":2: ${file:...}: cannot read"));
    conf_errors_release(&e);
    conffile_put("environment", "TARRY_A=1\nno assignment with a SECRET\n");
    ck_assert_ptr_null(conffile_load("env_file = \"environment\"\n", &e));
    ck_assert_ptr_nonnull(strstr(e.list[e.count - 1].p, "environment:2: no NAME=value"));
    ck_assert_ptr_null(strstr(e.list[e.count - 1].p, "SECRET"));
    conf_errors_release(&e);
}
END_TEST

START_TEST(same_things_where_they_differ)
{
    /* One prefix for several hosts, one host on two ports. */
    struct conf *c = conffile_must_load(
        "listen \"127.0.0.1:80\" { }\nlisten \"127.0.0.1:81\" { }\n"
        "workers \"a\" { server \"127.0.0.1:1\" { } }\n"
        "workers \"b\" { server \"127.0.0.1:2\" { } }\n"
        "upstream \"a\" { origin = \"https://a.example\" }\n"
        "upstream \"b\" { origin = \"https://a.example:444\" }\n"
        "upstream \"c\" { origin = \"http://127.0.0.1:443\" }\n"
        "upstream \"d\" { origin = \"https://127.0.0.1\" }\n"
        "route \"/\" { workers = \"a\" }\nroute \"/\" { host = \"x\" workers = \"b\" }\n"
        "route \"/\" { host = \"y\" upstream = \"a\" }\n");

    ck_assert_uint_eq(c->nroutes, 3);
    conf_unref(c);
}
END_TEST

static TCase *cases(void)
{
    TCase *t = tcase_create("load");

    tcase_add_checked_fixture(t, conffile_open, conffile_close);
    tcase_add_test(t, has_defaults);
    tcase_add_test(t, reads_the_global_options);
    tcase_add_test(t, reads_compression);
    tcase_add_test(t, reads_a_pool);
    tcase_add_test(t, reads_an_upstream);
    tcase_add_loop_test(t, normalises_origins, 0, COUNT_OF(origins));
    tcase_add_test(t, allows_plain_http_anywhere_if_told_so);
    tcase_add_test(t, reads_addresses);
    tcase_add_test(t, makes_servers_of_a_count);
    tcase_add_test(t, reads_certificates);
    tcase_add_test(t, replaces_variables_inside_double_quotes);
    tcase_add_test(t, understands_the_forms_of_the_language);
    tcase_add_test(t, includes_files_in_place);
    tcase_add_test(t, an_override_replaces_what_stands_above);
    tcase_add_test(t, defaults_give_way_to_what_is_written);
    tcase_add_test(t, takes_variables_from_env_file_and_values_from_files);
    tcase_add_test(t, same_things_where_they_differ);
    return t;
}

UNIT_MAIN("conf_load")
