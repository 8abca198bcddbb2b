/* The load driver's command line and the requests that come of it. */
#include "plan.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: load --url http://HOST:PORT/PATH --clients N --requests M [option …]\n"
    "\n"
    "N clients at once, each with one request at a time, until M requests in all are done. Every "
    "answer must\n"
    "have status 200 and hold the expected text. {i} stands for the request's number, 1 to M.\n"
    "\n"
    "  --url URL             where to; {i} in it is replaced\n"
    "  --unix PATH           connect to this unix socket instead of the URL's host\n"
    "  --method NAME         default GET, with a body POST\n"
    "  --header 'NAME: V'    may be given more than once; {i} is replaced\n"
    "  --body FILE           send this file\n"
    "  --body-template TEXT  send this text; {i} is replaced\n"
    "  --expect-substring T  the answer's body must hold T; {i} is replaced\n"
    "  --keepalive           keep connections; otherwise one connection a request\n"
    "  --ramp TIME           start the clients evenly over this time (\"500ms\", \"2s\"; a bare "
    "number is ms)\n"
    "  --timeout TIME        for one request (default 60s; a bare number is seconds)\n"
    "  --progress            a line on standard error while it runs\n"
    "  --json                print the result as one line of JSON\n"
    "\n"
    "Exits with 0 when every answer was right, with 1 when not, with 2 when it could not begin.\n";

enum option_id {
    OPT_URL = 256,
    OPT_UNIX,
    OPT_CLIENTS,
    OPT_REQUESTS,
    OPT_METHOD,
    OPT_HEADER,
    OPT_BODY,
    OPT_BODY_TEMPLATE,
    OPT_EXPECT,
    OPT_KEEPALIVE,
    OPT_RAMP,
    OPT_TIMEOUT,
    OPT_PROGRESS,
    OPT_JSON,
    OPT_HELP,
};

static const struct option options[] = {
    { "url", required_argument, NULL, OPT_URL },
    { "unix", required_argument, NULL, OPT_UNIX },
    { "clients", required_argument, NULL, OPT_CLIENTS },
    { "requests", required_argument, NULL, OPT_REQUESTS },
    { "method", required_argument, NULL, OPT_METHOD },
    { "header", required_argument, NULL, OPT_HEADER },
    { "body", required_argument, NULL, OPT_BODY },
    { "body-template", required_argument, NULL, OPT_BODY_TEMPLATE },
    { "expect-substring", required_argument, NULL, OPT_EXPECT },
    { "keepalive", no_argument, NULL, OPT_KEEPALIVE },
    { "ramp", required_argument, NULL, OPT_RAMP },
    { "timeout", required_argument, NULL, OPT_TIMEOUT },
    { "progress", no_argument, NULL, OPT_PROGRESS },
    { "json", no_argument, NULL, OPT_JSON },
    { "help", no_argument, NULL, OPT_HELP },
    { NULL, 0, NULL, 0 },
};

static int read_count(const char *name, const char *text, size_t max, size_t *out)
{
    char *end;
    unsigned long long v;

    errno = 0;
    v = strtoull(text, &end, 10);
    if (text[0] == '-' || end == text || *end != '\0' || errno != 0 || v < 1 || v > max) {
        fprintf(stderr, "load: --%s is a number from 1 to %zu, not \"%s\"\n", name, max, text);
        return -1;
    }
    *out = (size_t)v;
    return 0;
}

/* Seconds from "250ms", "2s" or a bare number of `bare` seconds each. */
static int read_time(const char *name, const char *text, double bare, double *out)
{
    char *end;
    double v = strtod(text, &end);

    if (end != text && strcmp(end, "ms") == 0)
        bare = 0.001;
    else if (end != text && strcmp(end, "s") == 0)
        bare = 1;
    else if (end == text || *end != '\0')
        v = -1;
    if (!(v >= 0 && v < 1e9)) {
        fprintf(stderr, "load: --%s is a time such as 250ms or 2s, not \"%s\"\n", name, text);
        return -1;
    }
    *out = v * bare;
    return 0;
}

static int read_file(const char *name, char **out, size_t *len)
{
    FILE *f = fopen(name, "rb");
    char chunk[65536];
    char *more;
    size_t n;

    if (f == NULL) {
        fprintf(stderr, "load: cannot read \"%s\": %s\n", name, strerror(errno));
        return -1;
    }
    while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0) {
        more = realloc(*out, *len + n);
        if (more == NULL) {
            fprintf(stderr, "load: no memory for \"%s\"\n", name);
            fclose(f);
            return -1;
        }
        *out = more;
        memcpy(*out + *len, chunk, n);
        *len += n;
    }
    fclose(f);
    return 0;
}

static int read_url(struct plan *p, const char *url, bool resolve)
{
    char authority[256], with_port[270];
    size_t n;

    if (strncmp(url, "http://", 7) != 0) {
        fprintf(stderr, "load: --url begins with http://, not \"%s\"\n", url);
        return -1;
    }
    url += 7;
    n = strcspn(url, "/");
    if (n == 0 || n >= sizeof(authority)) {
        fprintf(stderr, "load: --url names no host: \"%s\"\n", url);
        return -1;
    }
    memcpy(authority, url, n);
    authority[n] = '\0';
    p->path = url[n] == '/' ? url + n : "/";
    snprintf(p->host, sizeof(p->host), "%s", authority);
    if (!resolve)
        return 0;
    if (strrchr(authority, ':') != NULL && authority[n - 1] != ']')
        snprintf(with_port, sizeof(with_port), "%s", authority);
    else
        snprintf(with_port, sizeof(with_port), "%s:80", authority);
    return sock_parse(with_port, &p->addr);
}

/* Room for `n` clients and some for the rest of the process, or a word about it. */
static int check_descriptors(size_t n)
{
    size_t limit = sock_raise_limit();

    if (n + 32 <= limit)
        return 0;
    fprintf(stderr,
        "load: %zu clients need %zu descriptors, and this process may have %zu: raise the limit "
        "(ulimit -n)\n",
        n, n + 32, limit);
    return -1;
}

int plan_read(struct plan *p, int argc, char **argv)
{
    const char *url = NULL, *path = NULL;
    char unix_addr[256];
    int id, err = 0;

    *p = (struct plan){ .clients = 1, .requests = 1, .timeout = 60, .expect = "" };
    while (err == 0 && (id = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (id) {
        case OPT_URL:
            url = optarg;
            break;
        case OPT_UNIX:
            path = optarg;
            break;
        case OPT_CLIENTS:
            err = read_count("clients", optarg, PLAN_CLIENTS_MAX, &p->clients);
            break;
        case OPT_REQUESTS:
            err = read_count("requests", optarg, 100000000, &p->requests);
            break;
        case OPT_METHOD:
            p->method = optarg;
            break;
        case OPT_HEADER:
            if (p->nheaders == PLAN_HEADERS) {
                fprintf(stderr, "load: at most %d times --header\n", PLAN_HEADERS);
                err = -1;
            } else {
                p->headers[p->nheaders++] = optarg;
            }
            break;
        case OPT_BODY:
            err = read_file(optarg, &p->body, &p->body_len);
            break;
        case OPT_BODY_TEMPLATE:
            p->body_template = optarg;
            break;
        case OPT_EXPECT:
            p->expect = optarg;
            break;
        case OPT_KEEPALIVE:
            p->keepalive = true;
            break;
        case OPT_RAMP:
            err = read_time("ramp", optarg, 0.001, &p->ramp);
            break;
        case OPT_TIMEOUT:
            err = read_time("timeout", optarg, 1, &p->timeout);
            break;
        case OPT_PROGRESS:
            p->progress = true;
            break;
        case OPT_JSON:
            p->json = true;
            break;
        case OPT_HELP:
            fputs(usage, stdout);
            return 1;
        default:
            err = -1;
        }
    }
    if (err == 0 && (url == NULL || optind < argc)) {
        fputs(usage, stderr);
        err = -1;
    }
    if (err == 0)
        err = read_url(p, url, path == NULL);
    if (err == 0 && path != NULL) {
        snprintf(unix_addr, sizeof(unix_addr), "unix:%s", path);
        err = sock_parse(unix_addr, &p->addr);
    }
    if (err == 0) {
        if (p->clients > p->requests)
            p->clients = p->requests;
        if (p->method == NULL)
            p->method = p->body != NULL || p->body_template != NULL ? "POST" : "GET";
        err = check_descriptors(p->clients);
    }
    return err == 0 ? 0 : 3;
}

void plan_release(struct plan *p)
{
    free(p->body);
    p->body = NULL;
}

/* Writes `text` with every {i} replaced. The length of the whole, whether or not it fitted. */
static size_t fill(char *buf, size_t n, const char *text, size_t i)
{
    char number[24];
    size_t len = 0, take;
    const char *from;

    snprintf(number, sizeof(number), "%zu", i);
    while (*text != '\0') {
        if (strncmp(text, "{i}", 3) == 0) {
            from = number;
            take = strlen(number);
            text += 3;
        } else {
            from = text;
            take = 1;
            text++;
        }
        if (len + take < n)
            memcpy(buf + len, from, take);
        len += take;
    }
    if (n > 0)
        buf[len < n ? len : n - 1] = '\0';
    return len;
}

char *plan_request(const struct plan *p, size_t i, size_t *len)
{
    size_t body_len = p->body_template != NULL ? fill(NULL, 0, p->body_template, i) : p->body_len;
    bool has_body = p->body != NULL || p->body_template != NULL;
    size_t room = 256 + strlen(p->host) + fill(NULL, 0, p->path, i) + body_len, n, h;
    char *out;

    for (h = 0; h < p->nheaders; h++)
        room += fill(NULL, 0, p->headers[h], i) + 2;
    room += strlen(p->method);
    out = malloc(room);
    if (out == NULL)
        return NULL;
    n = (size_t)snprintf(out, room, "%s ", p->method);
    n += fill(out + n, room - n, p->path, i);
    n += (size_t)snprintf(out + n, room - n, " HTTP/1.1\r\nHost: %s\r\n", p->host);
    if (!p->keepalive)
        n += (size_t)snprintf(out + n, room - n, "Connection: close\r\n");
    if (has_body)
        n += (size_t)snprintf(out + n, room - n, "Content-Length: %zu\r\n", body_len);
    for (h = 0; h < p->nheaders; h++) {
        n += fill(out + n, room - n, p->headers[h], i);
        n += (size_t)snprintf(out + n, room - n, "\r\n");
    }
    n += (size_t)snprintf(out + n, room - n, "\r\n");
    if (p->body_template != NULL)
        n += fill(out + n, room - n, p->body_template, i);
    else if (p->body != NULL)
        n += (size_t)(memcpy(out + n, p->body, p->body_len), p->body_len);
    *len = n;
    return out;
}

void plan_expected(const struct plan *p, size_t i, char *buf, size_t n)
{
    fill(buf, n, p->expect, i);
}
