/* Heads from bytes, line by line. An error depends on the bytes alone, never on how they were cut:
 * a line's octets are looked at in order, and its structure once the line is complete. */
#include "http/h1parse.h"

#include "base/num.h"
#include "base/url.h"
#include "http/fields.h"

enum {
    METHOD_MAX = 32, /* the longest registered one has 17 */
    VERSION_LEN = 8, /* HTTP/1.1 */
    CONNECTION_NAMES_MAX = 32,
    GLANCE_TARGET_MAX = 1024, /* enough to know it again in a log */
};

static const struct {
    const char *text;
    unsigned status;
} errors[] = {
    [-H1_E_LINE] = { "malformed start line", 400 },
    [-H1_E_VERSION] = { "unsupported HTTP version", 505 },
    [-H1_E_METHOD] = { "malformed method", 400 },
    [-H1_E_TARGET] = { "malformed target", 400 },
    [-H1_E_TARGET_TOO_LONG] = { "target too long", 414 },
    [-H1_E_FIELD] = { "malformed field line", 400 },
    [-H1_E_LINE_END] = { "line ended by a bare CR or LF", 400 },
    [-H1_E_HEAD_TOO_LARGE] = { "header section too large", 431 },
    [-H1_E_LENGTH] = { "malformed, repeated or contradicted Content-Length", 400 },
    [-H1_E_CODING] = { "malformed or repeated Transfer-Encoding", 400 },
    [-H1_E_CODING_UNKNOWN] = { "transfer coding other than chunked", 501 },
    [-H1_E_HOST] = { "missing, repeated, malformed or contradicted Host", 400 },
    [-H1_E_CONNECTION] = { "Connection names a field that it may not name", 400 },
    [-H1_E_CHUNK] = { "malformed chunk", 400 },
    [-H1_E_CHUNK_OVERHEAD] = { "chunk extensions or trailers too large", 400 },
    [-H1_E_STATUS] = { "status not from 100 to 599", 400 },
    [-H1_E_ENDED] = { "connection ended in mid-message", 400 },
    [-H1_E_EXPECT] = { "Expect other than 100-continue", 417 },
    [-H1_E_LIMIT] = { "body too large", 413 },
    [-H1_E_REPEATED] = { "Authorization or Content-Type is repeated", 400 },
    [-H1_E_CONNECT] = { "CONNECT is not served", 501 },
};

static bool h1parse_is_error(int err)
{
    return err < 0 && err > -(int)(sizeof(errors) / sizeof(*errors));
}

const char *h1_strerror(int err)
{
    return h1parse_is_error(err) ? errors[-err].text : "no error";
}

unsigned h1_error_status(int err)
{
    return h1parse_is_error(err) ? errors[-err].status : 400;
}

static bool h1parse_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int h1parse_parse_version(struct str s, unsigned *minor)
{
    if (s.n != VERSION_LEN || !str_starts_with(s, STR("HTTP/")) || !h1parse_is_digit(s.p[5]) ||
        s.p[6] != '.' || !h1parse_is_digit(s.p[7]) || s.p[5] == '0')
        return H1_E_LINE;
    if (s.p[5] != '1')
        return H1_E_VERSION;
    *minor = s.p[7] == '0' ? 0 : 1;
    return 0;
}

static int h1parse_parse_absolute_target(struct head *out)
{
    struct str written = out->target;
    size_t begin, end;
    struct url url;

    if (url_parse_absolute(written, &url) < 0 || url_default_port(url.scheme) == 0)
        return H1_E_TARGET;
    out->default_port = url_default_port(url.scheme);
    begin = url.scheme.n + 3; /* "://" */
    for (end = begin; end < written.n && written.p[end] != '/' && written.p[end] != '?'; end++)
        ;
    out->authority = str_make(written.p + begin, end - begin);
    if (end == written.n) {
        /* RFC 9112 3.2.4: the server as a whole, asked through a proxy. */
        out->target = str_eq(out->method, STR("OPTIONS")) ? STR("*") : STR("/");
        return 0;
    }
    /* A query without a path is no origin-form, and there is no place here to put the "/". */
    out->target = str_make(written.p + end, written.n - end);
    return url_is_origin_form(out->target) ? 0 : H1_E_TARGET;
}

static int h1parse_parse_target(enum h1_kind kind, struct head *out)
{
    struct url url;

    if (str_eq(out->method, STR("CONNECT")))
        return H1_E_TARGET;
    if (kind == H1_ENCLOSED_REQUEST)
        return url_parse(out->target, &url) < 0 ? H1_E_TARGET : 0;
    if (out->target.p[0] == '/')
        return url_is_origin_form(out->target) ? 0 : H1_E_TARGET;
    if (str_eq(out->target, STR("*")))
        return str_eq(out->method, STR("OPTIONS")) ? 0 : H1_E_TARGET;
    return h1parse_parse_absolute_target(out);
}

static int h1parse_parse_request_line(
    enum h1_kind kind, const struct h1_limits *limits, struct str line, struct head *out)
{
    struct str rest, version;
    int rc;

    if (!str_cut(line, ' ', &out->method, &rest) || out->method.n == 0)
        return H1_E_LINE;
    if (out->method.n > METHOD_MAX || !field_is_method(out->method))
        return H1_E_METHOD;
    if (!str_cut(rest, ' ', &out->target, &version) || out->target.n == 0)
        return H1_E_LINE;
    rc = h1parse_parse_version(version, &out->minor);
    if (rc < 0)
        return rc;
    if (kind == H1_ENCLOSED_REQUEST && version.p[VERSION_LEN - 1] != '1')
        return H1_E_VERSION;
    if (out->target.n > limits->target_max)
        return H1_E_TARGET_TOO_LONG;
    return h1parse_parse_target(kind, out);
}

void h1_glance(struct str in, struct head *out)
{
    struct str rest = in, method;
    size_t n = 0;

    while (rest.n > 0 && (rest.p[0] == '\r' || rest.p[0] == '\n'))
        rest = str_make(rest.p + 1, rest.n - 1);
    if (!str_cut(rest, ' ', &method, &rest) || method.n > METHOD_MAX || !field_is_token(method))
        return;
    out->method = method;
    while (n < rest.n && n < GLANCE_TARGET_MAX && rest.p[n] > ' ' && rest.p[n] < 0x7f)
        n++;
    out->target = str_make(rest.p, n);
}

static int h1parse_parse_status_line(struct str line, struct head *out)
{
    struct str version, rest, status;
    uint64_t v;
    int rc;

    if (!str_cut(line, ' ', &version, &rest))
        return H1_E_LINE;
    rc = h1parse_parse_version(version, &out->minor);
    if (rc < 0)
        return rc;
    str_cut(rest, ' ', &status,
        &out->reason); /* a server may forget the blank before an empty reason */
    if (!num_parse_u64(status, &v))
        return H1_E_LINE;
    if (status.n != 3 || v < 100 || v > 599)
        return H1_E_STATUS;
    out->status = (unsigned)v;
    return 0;
}

/* A name that does not end with a colon is malformed, or has a blank before the colon, or the line
 * continues the one before (obs-fold). */
static int h1parse_parse_field(struct str line, struct head *out)
{
    size_t n = field_token_len(line);

    if (out->nfields >= out->room)
        return H1_E_HEAD_TOO_LARGE;
    if (n == 0 || n == line.n || line.p[n] != ':')
        return H1_E_FIELD;
    out->fields[out->nfields++] =
        (struct field){ str_make(line.p, n), str_trim(str_make(line.p + n + 1, line.n - n - 1)) };
    return 0;
}

static int h1parse_parse_line(enum h1_kind kind, const struct h1_limits *limits, size_t number,
    struct str line, struct head *out)
{
    if (number > 0)
        return h1parse_parse_field(line, out);
    if (kind == H1_RESPONSE)
        return h1parse_parse_status_line(line, out);
    return h1parse_parse_request_line(kind, limits, line, out);
}

/* A start line that is longer than any allowed one can be: the method or the target is too long. */
static int h1parse_too_long(struct str line)
{
    return field_token_len(line) > METHOD_MAX ? H1_E_METHOD : H1_E_TARGET_TOO_LONG;
}

/* One walk over the lines that are there, from where the last one ended. */
static ssize_t h1parse_walk(struct h1_scan *scan, enum h1_kind kind, const struct h1_limits *limits,
    struct str in, struct head *out)
{
    size_t end = in.n < limits->head_max ? in.n : limits->head_max;
    size_t line_max = METHOD_MAX + 1 + limits->target_max + 1 + VERSION_LEN + 2;

    for (;;) {
        bool bounded = scan->lines == 0 && kind != H1_RESPONSE && end - scan->line > line_max;
        size_t stop = bounded ? scan->line + line_max : end;
        struct str line;
        int rc;

        scan->pos += field_text_len(str_make(in.p + scan->pos, stop - scan->pos));
        line = str_make(in.p + scan->line, scan->pos - scan->line);
        if (scan->pos == stop || (in.p[scan->pos] == '\r' && scan->pos + 1 == stop)) {
            if (bounded)
                return h1parse_too_long(line);
            return end == limits->head_max ? H1_E_HEAD_TOO_LARGE : 0;
        }
        if (in.p[scan->pos] == '\n')
            return H1_E_LINE_END;
        if (in.p[scan->pos] != '\r')
            return scan->lines == 0 ? H1_E_LINE : H1_E_FIELD;
        if (in.p[scan->pos + 1] != '\n')
            return H1_E_LINE_END;
        scan->pos += 2;
        scan->line = scan->pos;
        if (line.n == 0 && scan->lines > 0)
            return (ssize_t)scan->pos;
        if (line.n == 0) {
            if (kind != H1_REQUEST || scan->skipped > 0)
                return H1_E_LINE;
            scan->skipped = scan->pos;
            continue;
        }
        rc = h1parse_parse_line(kind, limits, scan->lines, line, out);
        if (rc < 0)
            return rc;
        scan->lines++;
    }
}

static void h1parse_clear(const struct h1_limits *limits, struct head *out)
{
    *out = (struct head){
        .fields = out->fields,
        .room = limits->fields_max < H1_FIELDS_MAX ? limits->fields_max : H1_FIELDS_MAX,
    };
}

ssize_t h1_parse_head(struct h1_scan *scan, enum h1_kind kind, const struct h1_limits *limits,
    struct str in, struct head *out)
{
    size_t before = scan->lines;
    ssize_t n;

    h1parse_clear(limits, out);
    /* Fields of lines seen in earlier calls are not kept between calls (the bytes may have moved
     * since): the count alone is. */
    out->nfields = before > 0 ? before - 1 : 0;
    n = h1parse_walk(scan, kind, limits, in, out);
    if (n <= 0 || before == 0)
        return n;
    *scan = (struct h1_scan){ 0 };
    h1parse_clear(limits, out);
    return h1parse_walk(scan, kind, limits, in, out);
}

/* The fields that decide where the message ends and whether the connection goes on. */
struct framing {
    struct str host, length, coding;
    size_t hosts, lengths, codings;
    size_t expects, names; /* names: elements of Connection */
    bool expects_continue, close, keep_alive, upgrade_token, upgrade_field;
};

/* RFC 9110 7.6.1: Connection must not name fields for all recipients. Without these the message
 * would be another one, or from somebody else. */
static bool h1parse_may_not_end_here(struct str name)
{
    static const struct str kept[] = {
        STR_INIT("host"),
        STR_INIT("content-length"),
        STR_INIT("transfer-encoding"),
        STR_INIT("authorization"),
        STR_INIT("cookie"),
        STR_INIT("expect"),
        STR_INIT("forwarded"),
        STR_INIT("x-real-ip"),
    };

    for (size_t i = 0; i < sizeof(kept) / sizeof(*kept); i++)
        if (field_folds_to(name, kept[i]))
            return true;
    return field_begins_folded(name, STR("x-forwarded-")) || field_is_tarry(name);
}

static int h1parse_read_connection(struct str list, bool request, struct framing *fr)
{
    struct str name;

    while (str_next_element(&list, &name)) {
        if (request && (++fr->names > CONNECTION_NAMES_MAX || !field_is_token(name) ||
                           h1parse_may_not_end_here(name)))
            return H1_E_CONNECTION;
        fr->close |= str_eq_nocase(name, STR("close"));
        fr->keep_alive |= str_eq_nocase(name, STR("keep-alive"));
        fr->upgrade_token |= str_eq_nocase(name, STR("upgrade"));
    }
    return 0;
}

static int h1parse_read_field(struct field f, bool request, struct framing *fr)
{
    switch (f.name.n) {
    case 4:
        if (str_eq_nocase(f.name, STR("host"))) {
            fr->host = f.value;
            fr->hosts++;
        }
        return 0;
    case 6:
        if (str_eq_nocase(f.name, STR("expect"))) {
            fr->expects_continue = str_eq_nocase(f.value, STR("100-continue"));
            fr->expects++;
        }
        return 0;
    case 7:
        fr->upgrade_field |= f.value.n > 0 && str_eq_nocase(f.name, STR("upgrade"));
        return 0;
    case 10:
        if (str_eq_nocase(f.name, STR("connection")))
            return h1parse_read_connection(f.value, request, fr);
        return 0;
    case 14:
        if (str_eq_nocase(f.name, STR("content-length"))) {
            fr->length = f.value;
            fr->lengths++;
        } else if (request && field_folds_to(f.name, STR("content-length"))) {
            return H1_E_LENGTH;
        }
        return 0;
    case 17:
        if (str_eq_nocase(f.name, STR("transfer-encoding"))) {
            fr->coding = f.value;
            fr->codings++;
        } else if (request && field_folds_to(f.name, STR("transfer-encoding"))) {
            return H1_E_CODING;
        }
        return 0;
    default:
        return 0;
    }
}

/* The field is not "chunked". Codings that Tarry does not know, well written, are the peer's right
 * (501); the rest is an attempt to be read in two ways. */
static int h1parse_refuse_coding(struct str list)
{
    size_t elements = 0;
    bool chunked = false, identity = false, more = true;

    while (more) {
        struct str element;

        more = str_cut(list, ',', &element, &list);
        element = str_trim(element);
        if (!field_is_token(element) || chunked)
            return H1_E_CODING;
        chunked = str_eq_nocase(element, STR("chunked"));
        identity |= str_eq_nocase(element, STR("identity"));
        elements++;
    }
    return identity && elements > 1 ? H1_E_CODING : H1_E_CODING_UNKNOWN;
}

/* RFC 9112 6.1 to 6.3, without its leniencies. Leaves out->framing at H1_NO_BODY if neither field
 * is there. */
static int h1parse_read_framing(
    const struct head *h, bool request, struct framing *fr, struct h1_message *out)
{
    *out = (struct h1_message){ 0 };
    for (size_t i = 0; i < h->nfields; i++) {
        int rc = h1parse_read_field(h->fields[i], request, fr);

        if (rc < 0)
            return rc;
    }
    out->keep_alive = !fr->close && (h->minor > 0 || fr->keep_alive);
    out->upgrade = h->minor > 0 && fr->upgrade_token && fr->upgrade_field;
    if (fr->lengths > 1 || (fr->lengths > 0 && fr->codings > 0))
        return H1_E_LENGTH;
    if (fr->lengths == 1) {
        out->framing = H1_LENGTH;
        if (!num_parse_u64(fr->length, &out->length) ||
            (fr->length.n > 1 && fr->length.p[0] == '0'))
            return H1_E_LENGTH;
    }
    if (fr->codings > 0) {
        if (fr->codings > 1 || h->minor == 0)
            return H1_E_CODING;
        if (!str_eq_nocase(fr->coding, STR("chunked")))
            return h1parse_refuse_coding(fr->coding);
        out->framing = H1_CHUNKED;
    }
    return 0;
}

/* Whether two authorities are one: the scheme's port may be written or not (RFC 9110 4.2.3). Both
 * are well formed. */
static bool h1parse_is_same_authority(struct str a, struct str b, uint16_t default_port)
{
    struct str host_a, host_b;
    uint16_t port_a, port_b;
    bool ipv6_a, ipv6_b;

    if (url_parse_authority(a, &host_a, &ipv6_a, &port_a) < 0 ||
        url_parse_authority(b, &host_b, &ipv6_b, &port_b) < 0)
        return false;
    return ipv6_a == ipv6_b && str_eq_nocase(host_a, host_b) &&
           (port_a ? port_a : default_port) == (port_b ? port_b : default_port);
}

static int h1parse_check_host(struct head *h, const struct framing *fr)
{
    struct str host;
    uint16_t port;
    bool ipv6;

    if (fr->hosts == 0)
        return h->minor > 0 ? H1_E_HOST : 0;
    if (fr->hosts > 1 || url_parse_authority(fr->host, &host, &ipv6, &port) < 0)
        return H1_E_HOST;
    if (h->authority.n > 0 && !h1parse_is_same_authority(h->authority, fr->host, h->default_port))
        return H1_E_HOST;
    h->authority = fr->host;
    return 0;
}

int h1_check_request(struct head *head, struct h1_message *out)
{
    struct framing fr = { 0 };
    int rc = h1parse_read_framing(head, true, &fr, out);

    if (rc == 0)
        rc = h1parse_check_host(head, &fr);
    if (rc < 0)
        return rc;
    /* Servers take the first, the last, or both. */
    if (head_count(head, STR("content-type")) > 1 || head_count(head, STR("authorization")) > 1)
        return H1_E_REPEATED;
    if (fr.expects > 0) {
        if (fr.expects > 1 || !fr.expects_continue)
            return H1_E_EXPECT;
        /* RFC 9110 10.1.1: an HTTP/1.0 client would not understand the answer. */
        out->expects_continue =
            head->minor > 0 &&
            (out->framing == H1_CHUNKED || (out->framing == H1_LENGTH && out->length > 0));
    }
    return 0;
}

int h1_check_response(const struct head *head, struct str method, struct h1_message *out)
{
    struct framing fr = { 0 };
    int rc = h1parse_read_framing(head, false, &fr, out);

    if (rc < 0)
        return rc;
    if (head->status < 200 || head->status == 204) {
        /* No body is allowed. One that is announced nevertheless may come: what follows on the
         * connection is no response. After 101 it is none in any case. */
        if (head->status == 101 || out->framing == H1_CHUNKED || out->length > 0)
            out->keep_alive = false;
        out->framing = H1_NO_BODY;
    } else if (head->status == 304 || str_eq(method, STR("HEAD"))) {
        out->framing = H1_NO_BODY;
    } else if (out->framing == H1_NO_BODY) {
        out->framing = H1_UNTIL_CLOSE;
        out->keep_alive = false;
    }
    if (out->framing == H1_NO_BODY)
        out->length = 0;
    return 0;
}

int h1_check_enclosed(const struct head *head, struct h1_message *out)
{
    struct framing fr = { 0 };
    int rc = h1parse_read_framing(head, true, &fr, out);

    if (rc < 0)
        return rc == H1_E_CODING_UNKNOWN ? H1_E_CODING : rc;
    return out->framing == H1_CHUNKED ? H1_E_CODING : 0;
}
