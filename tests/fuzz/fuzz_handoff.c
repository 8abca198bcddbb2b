/* What workers hand off: an octet of flags, a response's head, and a body. What is accepted must be
 * complete, and each enclosed request must become one that can be sent and is read again as what
 * was meant. */
#include <zlib.h>

#include "exchange/handoff.h"
#include "http/fields.h"
#include "http/h1parse.h"
#include "http/h1write.h"
#include "upstream/rewrite.h"
#include "laws.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* The flags: how much of a body is kept in memory, and what else is done. */
enum { FLAG_BORDER = 7, FLAG_COMPRESS = 8, FLAG_NO_CODING = 16 };
static const size_t borders[] = { 1 << 20, 0, 1, 7, 40, 64, 100, 1000 };

enum { FIELDS_MAX = 12, HEAD_MAX = 600, TARGET_MAX = 100, INPUT_MAX = 8192 };

static struct header_conf set[] = {
    { .name = STR_INIT("Authorization"), .value = STR_INIT("Bearer conf") },
    { .name = STR_INIT("X-Api-Key"), .value = STR_INIT("key") },
};

static struct endpoint_conf endpoints[] = {
    { .name = STR_INIT("ai"),
        .origin = STR_INIT("https://api.example.com"),
        .tls = true,
        .host = STR_INIT("api.example.com"),
        .port = 443,
        .set_header = set,
        .nset_header = 2 },
    { .name = STR_INIT("local"),
        .origin = STR_INIT("http://[::1]:8080"),
        .host = STR_INIT("::1"),
        .ipv6 = true,
        .port = 8080 },
};

static struct upstream_conf upstreams[] = {
    { .name = STR_INIT("ai"), .endpoints = &endpoints[0], .nendpoints = 1 },
    { .name = STR_INIT("local"), .endpoints = &endpoints[1], .nendpoints = 1 },
};

static const struct pool_conf pool = {
    .name = STR_INIT("app"),
    .call_max = 2000,
    .handoff_max = 6000,
    .state_max = 50,
    .max_calls = 4,
};

static struct conf conf = {
    .refs = 1,
    .temp_dir = STR_INIT("/tmp"),
    .header_max = HEAD_MAX,
    .header_fields_max = FIELDS_MAX,
    .target_max = TARGET_MAX,
    .upstreams = upstreams,
    .nupstreams = 2,
};

static const char *const set_names[] = { "authorization", "x-api-key" };

/* The head as an HTTP/1.1 connection sends it, read as a server reads it. */
static void check_sent(const struct enclosed *e, const struct head *h, struct arena *a)
{
    static const struct h1_limits wide = { .head_max = 1 << 20,
        .fields_max = 100,
        .target_max = 10000,
        .interim_max = 16,
        .chunk_line_max = 4096,
        .chunk_overhead_max = 65536 };
    struct field list[100];
    struct head sent = *h, again = { .fields = list };
    struct buf out = { 0 };
    struct h1_scan scan = { 0 };
    struct h1_message m;
    int rc;

    sent.fields = NULL;
    sent.nfields = sent.room = 0;
    HOLDS(head_add(&sent, a, STR("Host"), h->authority) == 0);
    for (size_t i = 0; i < h->nfields; i++)
        HOLDS(head_add(&sent, a, h->fields[i].name, h->fields[i].value) == 0);
    HOLDS(h1_write_head(&out, H1_REQUEST, &sent) == 0);
    HOLDS(h1_parse_head(&scan, H1_REQUEST, &wide, buf_str(&out), &again) == (ssize_t)buf_len(&out));
    rc = h1_check_request(&again, &m);
    if (rc == H1_E_REPEATED) { /* a client may not, a worker may: it is the upstream's to judge */
        buf_release(&out);
        return;
    }
    HOLDS(rc == 0);
    HOLDS(again.nfields == sent.nfields);
    HOLDS(str_eq(again.method, e->method));
    HOLDS(str_eq(again.target, h->target));
    HOLDS(str_eq(again.authority, h->authority));
    for (size_t i = 0; i < again.nfields; i++) {
        HOLDS(str_eq(again.fields[i].name, sent.fields[i].name));
        HOLDS(str_eq(again.fields[i].value, sent.fields[i].value));
    }
    HOLDS((m.framing == H1_LENGTH ? m.length : 0) == e->body_len);
    HOLDS(m.framing != H1_CHUNKED && !m.expects_continue && !m.upgrade && m.keep_alive);
    buf_release(&out);
}

static void check_call(const struct handoff *h, const struct enclosed *e, bool no_coding)
{
    const struct endpoint_conf *to = e->upstream->endpoints;
    struct arena a = { 0 };
    struct head head;

    HOLDS(e->upstream == &upstreams[0] || e->upstream == &upstreams[1]);
    HOLDS(e->head_len + e->body_len <= pool.call_max);
    HOLDS(!e->call_id.p || (e->call_id.n > 0 && e->call_id.n <= 128));
    HOLDS(handoff_enclosed_head(h, e, &conf, no_coding, &a, &head) == 0);
    HOLDS(rewrite_head(&a, to, &head) == 0);
    HOLDS(str_eq(head.authority, to->tls ? STR("api.example.com") : STR("[::1]:8080")));
    for (size_t i = 0; i < head.nfields; i++) {
        HOLDS(!field_is_tarry(head.fields[i].name));
        HOLDS(!field_is_hop_by_hop(head.fields[i].name));
    }
    for (size_t i = 0; i < to->nset_header; i++) {
        HOLDS(head_count(&head, str_of(set_names[i])) == 1);
        HOLDS(str_eq(head_value(&head, str_of(set_names[i])), set[i].value));
    }
    HOLDS(!no_coding || str_eq(head_value(&head, STR("accept-encoding")), STR("identity")));
    check_sent(e, &head, &a);
    arena_release(&a);
}

static void check_accepted(const struct handoff *h, bool no_coding)
{
    uint64_t off = 0;

    HOLDS(h->ncalls > 0 && h->ncalls <= (h->then == THEN_RELAY ? 1 : pool.max_calls));
    HOLDS(body_size(&h->body) <= pool.handoff_max);
    HOLDS((h->then == THEN_RESUME) == (h->path.p != NULL));
    HOLDS(h->then == THEN_RELAY || (!h->notify.p && !h->on_error.p));
    for (size_t i = 0; i < h->ncalls; i++) {
        const struct enclosed *e = &h->calls[i];

        /* One behind the other, and nothing between them. */
        HOLDS(e->head_off == off && e->head_len > 0 && e->body_off == off + e->head_len);
        off = e->body_off + e->body_len;
        check_call(h, e, no_coding);
    }
    HOLDS(off == body_size(&h->body));
}

/* 0 or the error of reading this handoff with `border` bytes of its body in memory. */
static int read_handoff(const struct head *response, struct str body, size_t border, bool no_coding)
{
    struct arena a = { 0 };
    struct handoff h;
    char why[256] = "";
    int rc;

    conf.body_memory_max = border;
    rc = handoff_read_head(&h, &a, &conf, &pool, response, why, sizeof(why));
    if (rc == 0) {
        rc = handoff_take_data(&h, body, why, sizeof(why));
        if (rc == 0)
            rc = handoff_end_data(&h, why, sizeof(why));
    }
    if (rc == 0) {
        rc = handoff_read_body(&h, &a, &conf, &pool, why, sizeof(why));
    }
    HOLDS(rc <= 0 && rc != HANDOFF_E_MEMORY && rc != HANDOFF_E_STORAGE);
    HOLDS((rc == 0) == (why[0] == '\0'));
    if (rc == 0)
        check_accepted(&h, no_coding);
    handoff_release(&h);
    arena_release(&a);
    return rc;
}

static struct str compress_body(struct str s, char *out, size_t room)
{
    z_stream z = { .next_in = (Bytef *)(uintptr_t)s.p, .avail_in = (uInt)s.n };

    HOLDS(deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    z.next_out = (Bytef *)out;
    z.avail_out = (uInt)room;
    HOLDS(deflate(&z, Z_FINISH) == Z_STREAM_END);
    deflateEnd(&z);
    return str_make(out, z.total_out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct h1_limits limits = { .head_max = 4096,
        .fields_max = 40,
        .target_max = 100,
        .interim_max = 16,
        .chunk_line_max = 4096,
        .chunk_overhead_max = 65536 };
    static char packed[2 * INPUT_MAX];
    struct field list[40];
    struct head response = { .fields = list };
    struct h1_scan scan = { 0 };
    struct str in, body;
    size_t border;
    ssize_t k;
    int rc;

    if (n < 1 || n > INPUT_MAX)
        return 0;
    in = str_make((const char *)data + 1, n - 1);
    k = h1_parse_head(&scan, H1_RESPONSE, &limits, in, &response);
    if (k <= 0 || !handoff_is(&response))
        return 0;
    body = str_make(in.p + k, in.n - (size_t)k);
    if (data[0] & FLAG_COMPRESS)
        body = compress_body(body, packed, sizeof(packed));
    border = borders[data[0] & FLAG_BORDER];
    rc = read_handoff(&response, body, border, (data[0] & FLAG_NO_CODING) != 0);
    if (border != borders[0])
        HOLDS(read_handoff(&response, body, borders[0], (data[0] & FLAG_NO_CODING) != 0) == rc);
    return 0;
}
