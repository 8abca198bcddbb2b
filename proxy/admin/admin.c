/* Pages on HTTP/1.1 connections of the admin listeners. */
#include "admin/admin.h"

#include <stdlib.h>
#include <string.h>

#include "admin/control.h"
#include "admin/dashboard.h"
#include "admin/history.h"
#include "admin/levels.h"
#include "admin/page.h"
#include "admin/pause.h"
#include "admin/recent.h"
#include "admin/status.h"
#include "base/buf.h"
#include "base/url.h"
#include "frontend/front.h"
#include "frontend/health.h"
#include "http/h1server.h"
#include "http/limits.h"
#include "net/conn.h"
#include "net/fdreserve.h"
#include "observe/metric.h"

/* A listener of an `admin` section. */
struct admin_listener {
    struct list_node node;
    struct admin *admin;
    struct listener *listener;
    bool stays, control, next_control;
};

struct admin {
    struct front *front;
    const char *version, *commit;
    size_t slot;
    struct acceptor acceptor;
    struct acceptor control_acceptor; /* of listeners over which tarryctl may be used */
    struct control control;
    struct list listeners, next;
    struct status_process process;
};

/* ---- who may ask ---- */

static bool admin_ends_with(struct str s, const char *end)
{
    struct str e = str_of(end);

    return s.n > e.n && memcmp(s.p + s.n - e.n, e.p, e.n) == 0;
}

static bool admin_is_address(struct str host)
{
    for (size_t i = 0; i < host.n; i++)
        if (!(host.p[i] >= '0' && host.p[i] <= '9') && host.p[i] != '.')
            return false;
    return true;
}

/* A page of a stranger can have its own name point to this address and then read what is here, as
 * far as the browser knows from the same place (DNS rebinding). It cannot do so with an address, or
 * with names that exist in local networks only. */
static bool admin_knows_host(const struct conf *c, struct str authority)
{
    static const char *const local[] = { ".localhost", ".local", ".internal", ".home.arpa", ".svc",
        ".cluster.local" };
    struct str host = { 0 };
    char lower[256];
    uint16_t port;
    bool ipv6;

    if (authority.n == 0) /* HTTP/1.0: no browser */
        return true;
    if (url_parse_authority(authority, &host, &ipv6, &port) < 0 || host.n >= sizeof(lower))
        return false;
    for (size_t i = 0; i < host.n; i++)
        lower[i] = str_lower_char(host.p[i]);
    host.p = lower;
    if (ipv6 || admin_is_address(host) || str_find_char(host, '.') < 0)
        return true;
    for (size_t i = 0; i < sizeof(local) / sizeof(*local); i++)
        if (admin_ends_with(host, local[i]))
            return true;
    for (size_t i = 0; i < c->nadmins; i++)
        for (size_t k = 0; k < c->admins[i].hosts.n; k++)
            if (str_eq(c->admins[i].hosts.list[k], host))
                return true;
    return false;
}

/* ---- pages ---- */

static void admin_send_metrics(struct admin *a, struct stream *s, const struct head *head)
{
    static const char wanted[] = "application/openmetrics-text";
    const struct field *accept = head_find(head, STR("Accept"));
    bool openmetrics =
        accept && memmem(accept->value.p, accept->value.n, wanted, sizeof(wanted) - 1);
    struct buf b = { 0 };

    levels_publish(a->front);
    metric_print(&b, openmetrics);
    levels_print_own(a->front, &b, a->version, a->commit);
    if (openmetrics)
        buf_append_str(&b, STR("# EOF\n"));
    page_send(s, 200,
        openmetrics ? STR("application/openmetrics-text; version=1.0.0; charset=utf-8")
                    : STR("text/plain; version=0.0.4; charset=utf-8"),
        &b);
}

static void admin_send_status(struct admin *a, struct stream *s, const struct head *head)
{
    struct buf b = { 0 };

    status_print(a->front, &a->process, &b);
    page_send(s, 200, STR("application/json"), &b);
}

static void admin_send_live(struct admin *a, struct stream *s, const struct head *head)
{
    page_send_text(s, 200, "ok\n");
}

static void admin_send_ready(struct admin *a, struct stream *s, const struct head *head)
{
    char text[HEALTH_TEXT_MAX];
    struct health h = front_health(a->front);
    unsigned status = health_ready(&h, text);

    page_send_text(s, status, text);
}

static void admin_send_dashboard(struct admin *a, struct stream *s, const struct head *head)
{
    struct buf b = { 0 };

    dashboard_print(a->front, a->version, &b);
    page_send(s, 200, STR("application/json"), &b);
}

static void admin_send_file(struct stream *s, const struct dashboard_file *file)
{
    struct buf b = { 0 };

    buf_append_str(&b, str_of(file->text));
    page_send(s, 200, str_of(file->type), &b);
}

static const struct {
    const char *path;
    void (*send)(struct admin *a, struct stream *s, const struct head *head);
} pages[] = { { "/metrics", admin_send_metrics }, { "/status", admin_send_status },
    { "/livez", admin_send_live }, { "/readyz", admin_send_ready },
    { "/healthz", admin_send_ready }, { "/dashboard.json", admin_send_dashboard } };

/* False: there is no such page. */
static bool admin_send_page(struct admin *a, struct stream *s, const struct head *head)
{
    const struct dashboard_file *file;
    struct str path, query;

    str_cut(head->target, '?', &path, &query);
    file = dashboard_find(path);
    if (file) {
        admin_send_file(s, file);
        return true;
    }
    for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++)
        if (str_eq(path, str_of(pages[i].path))) {
            pages[i].send(a, s, head);
            return true;
        }
    return false;
}

static void admin_on_request(void *owner, struct stream *s, const struct stream_request *r)
{
    struct admin *a = owner;

    if (r->error_status)
        page_send_text(s, r->error_status, "bad request\n");
    else if (s->peer->family != AF_UNIX &&
             !admin_knows_host(front_conf(a->front), r->head->authority))
        page_send_text(s, 403,
            "this host is not known here; name it in the admin section, as in hosts = "
            "{ \"tarry.example\" }\n");
    else if (!str_eq(r->head->method, STR("GET")) && !str_eq(r->head->method, STR("HEAD")))
        page_send_text(s, 405, "only GET; what changes something is done with tarryctl\n");
    else if (!admin_send_page(a, s, r->head))
        page_send_text(s, 404, "try /, /metrics, /status, /livez or /readyz\n");
}

static void admin_on_control_request(void *owner, struct stream *s, const struct stream_request *r)
{
    struct admin *a = owner;

    if (r->error_status || !str_eq(r->head->method, STR("GET")) || !admin_send_page(a, s, r->head))
        control_answer(&a->control, s, r);
}

/* ---- listeners ---- */

static bool admin_may_accept(void *owner, bool waits)
{
    const struct admin *a = ((const struct admin_listener *)owner)->admin;

    if (waits)
        fdreserve_make_room();
    return acceptor_count(&a->acceptor) + acceptor_count(&a->control_acceptor) <
           front_conf(a->front)->admin_connections_max;
}

static void admin_on_accept(void *owner, struct listener *from, int fd, const struct sockaddr *peer)
{
    struct admin_listener *l = owner;
    struct conn *c = conn_accept(fd, peer, NULL, NULL, NULL);

    if (c)
        h1_server_open(c, l->control ? &l->admin->control_acceptor : &l->admin->acceptor);
}

static void admin_close_listener(struct admin_listener *l)
{
    list_remove(&l->node);
    listener_close(l->listener, true);
    free(l);
}

static struct admin_listener *admin_find(const struct admin *a, struct str text)
{
    LIST_EACH(n, &a->listeners) {
        struct admin_listener *l = LIST_OWNER(n, struct admin_listener, node);

        if (str_eq(listener_text(l->listener), text))
            return l;
    }
    return NULL;
}

static void admin_forget_marks(struct admin *a)
{
    LIST_EACH(n, &a->listeners) {
        LIST_OWNER(n, struct admin_listener, node)->stays = false;
    }
}

void admin_abandon(struct admin *a)
{
    while (list_first(&a->next))
        admin_close_listener(LIST_OWNER(list_first(&a->next), struct admin_listener, node));
    admin_forget_marks(a);
}

/* Opens what is new on a->next; marks what stays. */
int admin_prepare(struct admin *a, const struct conf *conf, char *why, size_t whylen)
{
    for (size_t i = 0; i < conf->nadmins; i++) {
        char room[CONF_ADDRESS_TEXT_MAX];
        struct admin_listener *l;
        struct addr_conf ac;

        conf_admin_address(conf, &conf->admins[i], a->slot, &ac, room);
        l = admin_find(a, ac.text);

        if (!l) {
            l = calloc(1, sizeof(*l));
            if (l)
                l->listener = listener_open(
                    &ac, (unsigned)conf->admin_connections_max, conf->processes > 1, why, whylen);
            if (!l || !l->listener) {
                free(l);
                admin_abandon(a);
                return -1;
            }
            l->admin = a;
            list_push(&a->next, &l->node);
        }
        l->next_control = conf->admins[i].control;
        l->stays = true;
    }
    return 0;
}

/* From the snapshot in force. */
static void admin_apply_limits(struct acceptor *to, const struct conf *c)
{
    to->limits = limits_of(c);
    to->header_timeout_ms = c->admin_timeout_ms;
    to->body_timeout_ms = c->admin_timeout_ms;
    to->send_timeout_ms = c->admin_timeout_ms;
    to->keep_alive_timeout_ms = c->admin_keep_alive_timeout_ms;
}

void admin_commit(struct admin *a)
{
    admin_apply_limits(&a->acceptor, front_conf(a->front));
    admin_apply_limits(&a->control_acceptor, front_conf(a->front));
    LIST_EACH(n, &a->listeners) {
        struct admin_listener *l = LIST_OWNER(n, struct admin_listener, node);

        l->control = l->next_control;
        if (!l->stays)
            admin_close_listener(l);
    }
    while (list_first(&a->next)) {
        struct admin_listener *l = LIST_OWNER(list_first(&a->next), struct admin_listener, node);

        list_push(&a->listeners, &l->node);
        l->control = l->next_control;
        listener_start(l->listener, admin_on_accept, admin_may_accept, l);
    }
    admin_forget_marks(a);
}

static void admin_init_acceptor(struct admin *a, struct acceptor *to, stream_accept_fn *fn)
{
    acceptor_init(to);
    to->on_request = fn;
    to->owner = a;
}

struct admin *admin_open(
    const struct admin_setup *setup, const struct conf *conf, char *why, size_t whylen)
{
    struct admin *a = calloc(1, sizeof(*a));

    if (!a) {
        snprintf(why, whylen, "out of memory");
        return NULL;
    }
    a->front = setup->front;
    a->version = setup->version;
    a->commit = setup->commit;
    a->slot = setup->slot;
    a->control = (struct control){
        .front = setup->front, .on_drain = setup->on_drain, .owner = setup->owner
    };
    list_init(&a->listeners);
    list_init(&a->next);
    admin_init_acceptor(a, &a->acceptor, admin_on_request);
    admin_init_acceptor(a, &a->control_acceptor, admin_on_control_request);
    if (admin_prepare(a, conf, why, whylen) < 0) {
        admin_close(a);
        return NULL;
    }
    levels_open();
    history_begin();
    pause_apply(a->front);
    admin_commit(a);
    return a;
}

void admin_set_sandbox(struct admin *a, bool seccomp, unsigned landlock)
{
    a->process.seccomp = seccomp;
    a->process.landlock = landlock;
}

void admin_publish(struct admin *a)
{
    pause_apply(a->front);
    levels_publish(a->front);
    recent_publish(&a->front->exchanges);
    history_tick(loop_wall_ms());
}

void admin_stop(struct admin *a)
{
    a->process.stopping = true;
}

void admin_close(struct admin *a)
{
    if (!a)
        return;
    LIST_EACH(n, &a->listeners) {
        admin_close_listener(LIST_OWNER(n, struct admin_listener, node));
    }
    acceptor_close(&a->acceptor);
    acceptor_close(&a->control_acceptor);
    levels_close();
    free(a);
}
