/* A stand-in for the APIs of OpenAI, Anthropic and Gemini, for tests, benchmarks and trying out
 * without a key. README.md is its manual.
 *
 *   door -> peer -> h1 or h2 -> job -> plan -> shape, stream, problem
 *                                 `-> record
 *
 * One thread, one loop. Each arrow calls; upwards there are only the tables of functions in peer.h
 * and job.h. */
#include <openssl/rand.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "certs.h"
#include "door.h"
#include "peer.h"
#include "provider.h"

static void on_signal(struct ev_loop *ev, ev_signal *w, int revents)
{
    ev_break(ev, EVBREAK_ALL);
}

static void raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static int open_record(struct provider *pr)
{
    const char *name = pr->options.record;

    if (!name)
        return 0;
    pr->record = strcmp(name, "-") == 0 ? stdout : fopen(name, "ae");
    if (!pr->record)
        perror(name);
    return pr->record ? 0 : -1;
}

static int open_tls(struct provider *pr)
{
    const struct options *o = &pr->options;

    if (o->certs && certs_make(o->certs))
        return -1;
    if (!o->https)
        return 0;
    pr->tls = certs_context(o->certs, o->wrong_name, !o->no_h2);
    return pr->tls ? 0 : -1;
}

static void say_ready(const struct provider *pr, const struct door *http, const struct door *https)
{
    fputs("provider: ready", stdout);
    if (http->fd >= 0)
        printf(" http=%s", http->address);
    if (https->fd >= 0)
        printf(" https=%s", https->address);
    if (pr->options.certs)
        printf(" ca=%s/ca.pem", pr->options.certs);
    putchar('\n');
    fflush(stdout);
}

static void run(struct provider *pr)
{
    static const int signals[] = { SIGTERM, SIGINT };
    ev_signal watchers[2];

    for (int i = 0; i < 2; i++) {
        ev_signal_init(&watchers[i], on_signal, signals[i]);
        ev_signal_start(pr->loop, &watchers[i]);
    }
    ev_run(pr->loop, 0);
    for (int i = 0; i < 2; i++)
        ev_signal_stop(pr->loop, &watchers[i]);
}

static void release(struct provider *pr)
{
    peer_stop_all(pr);
    fault_counts_release(&pr->counts);
    store_release(&pr->store);
    SSL_CTX_free(pr->tls);
    if (pr->record && pr->record != stdout)
        fclose(pr->record);
    ev_loop_destroy(pr->loop);
    free(pr);
}

static struct provider *provider_new(void)
{
    struct provider *pr = text_alloc(sizeof *pr);

    pr->loop = ev_default_loop(0);
    if (!pr->loop || RAND_bytes((unsigned char *)&pr->serial, sizeof pr->serial) != 1)
        abort();
    pr->serial >>= 8;
    peer_start_all(pr);
    return pr;
}

int main(int argc, char **argv)
{
    struct door http = { .fd = -1 }, https = { .fd = -1 };
    struct provider *pr = provider_new();
    const struct options *o = &pr->options;
    int status;

    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    raise_descriptors();
    if (options_read(&pr->options, argc, argv, &status) == 0) {
        status = 1;
        if (!open_record(pr) && !open_tls(pr) &&
            (!o->http || !door_open(&http, pr, o->http, NULL)) &&
            (!o->https || !door_open(&https, pr, o->https, pr->tls))) {
            say_ready(pr, &http, &https);
            run(pr);
            status = 0;
        }
    }
    door_close(&http);
    door_close(&https);
    release(pr);
    return status;
}
