/* Conf files: any bytes are either a conf that holds what its users rely on, or have at least one
 * mistake that is told well.
 *
 * The input is the conf; what stands behind the first line "%%" is a second file, which the conf
 * can include as "101". */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "conf/load.h"

enum { FIRST_FD = 100, SECOND_FD = 101, INPUT_MAX = 1 << 15 };

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define LAW(holds)                                                                                 \
    do {                                                                                           \
        if (!(holds))                                                                              \
            abort();                                                                               \
    } while (0)

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    for (int fd = FIRST_FD; fd <= SECOND_FD; fd++) {
        int mem = memfd_create("conf", 0);

        LAW(mem >= 0 && dup2(mem, fd) == fd);
        close(mem);
    }
    setenv("KEY", "value \"with\" \\ ${signs}", 1);
    unsetenv("NONE");
    return 0;
}

static void put(int fd, const void *p, size_t n)
{
    LAW(ftruncate(fd, 0) == 0 && pwrite(fd, p, n, 0) == (ssize_t)n);
}

static void check_errors(const struct conf_errors *e)
{
    static const struct str folder = STR_INIT("/proc/self/fd/");

    LAW(e->count > 0);
    for (size_t i = 0; i < e->count; i++) {
        struct str text = e->list[i];

        LAW(str_starts_with(text, folder) || text.p[0] == '/' || /* another file that it names */
            (i > 0 && i + 1 == e->count));                       /* or: "there are more" */
        for (size_t k = 0; k < text.n; k++)
            LAW((unsigned char)text.p[k] >= 0x20);
    }
}

static void check_pool(const struct conf *c, const struct pool_conf *p)
{
    LAW(conf_find_pool(c, p->name) == p);
    LAW(p->nservers > 0 && p->max_calls > 0 && p->max_hops > 0 && p->resume_attempts > 0);
    LAW(p->call_max <= p->handoff_max && p->notify_first_pause_ms <= p->notify_max_pause_ms);
    LAW(p->state_max <= 8000);
    for (size_t i = 0; i < p->nservers; i++)
        LAW(p->servers[i].slots > 0 &&
            (p->servers[i].addr.salen > 0 || p->servers[i].addr.host.n > 0));
    for (size_t i = 0; i < p->secret.n; i++)
        LAW(p->secret.p[i] > 0x20 && p->secret.p[i] < 0x7f);
}

static void check_endpoint(const struct conf *c, const struct endpoint_conf *e)
{
    LAW(conf_find_origin(c, e->tls ? STR("https") : STR("http"), e->host, e->port));
    LAW(e->port > 0 && e->weight > 0);
    for (size_t i = 0; i < e->nset_header; i++) {
        LAW(e->set_header[i].name.n > 0);
        for (size_t k = 0; k < e->set_header[i].value.n; k++)
            LAW(!strchr("\r\n", e->set_header[i].value.p[k]));
    }
}

static void check_upstream(const struct conf *c, const struct upstream_conf *u)
{
    LAW(conf_find_upstream(c, u->name) == u);
    LAW(u->nendpoints > 0 && u->connect_timeout_ms <= u->total_timeout_ms);
    for (size_t i = 0; i < u->nendpoints; i++)
        check_endpoint(c, &u->endpoints[i]);
}

static void check_conf(const struct conf *c)
{
    LAW(c->refs == 1 && c->nlistens > 0 && c->nroutes > 0 && c->processes > 0);
    for (size_t i = 0; i < c->nlistens; i++)
        LAW(c->listens[i].addr.salen > 0 &&
            (c->listens[i].certificate.n > 0) == (c->listens[i].private_key.n > 0));
    for (size_t i = 0; i < c->npools; i++)
        check_pool(c, &c->pools[i]);
    for (size_t i = 0; i < c->nupstreams; i++)
        check_upstream(c, &c->upstreams[i]);
    for (size_t i = 0; i < c->nroutes; i++) {
        const struct route_conf *r = &c->routes[i];

        LAW(!r->pool != !r->upstream);
        LAW(r->prefix.n > 0 && r->prefix.p[0] == '/');
        LAW(conf_find_route(c, r->host, r->prefix) != NULL);
        LAW(r->host.n == 0 || conf_find_route(c, r->host, r->prefix) == r);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char mark[] = "\n%%\n";
    const char *text = (const char *)data, *second;
    struct conf_errors errors;
    struct conf *c;

    if (n > INPUT_MAX)
        return 0;
    second = n > 0 ? memmem(text, n, mark, strlen(mark)) : NULL;
    if (second) {
        put(SECOND_FD, second + strlen(mark), (size_t)(text + n - second) - strlen(mark));
        n = (size_t)(second - text);
    } else {
        put(SECOND_FD, "", 0);
    }
    put(FIRST_FD, data, n);
    c = conf_load("/proc/self/fd/100", &errors);
    if (c) {
        LAW(errors.count == 0);
        check_conf(c);
    } else {
        check_errors(&errors);
    }
    conf_errors_release(&errors);
    conf_unref(c);
    return 0;
}
