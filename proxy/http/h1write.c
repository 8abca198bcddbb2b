/* Heads as bytes: measured first, then written in one piece. */
#include "http/h1write.h"

#include "http/fields.h"

enum { STATUS_MIN = 100, STATUS_MAX = 599 };

#define NAME(status, text) [(status)-STATUS_MIN] = STR_INIT(text)

/* The IANA registry of status codes. */
static const struct str reasons[STATUS_MAX - STATUS_MIN + 1] = {
    NAME(100, "Continue"),
    NAME(101, "Switching Protocols"),
    NAME(102, "Processing"),
    NAME(103, "Early Hints"),
    NAME(200, "OK"),
    NAME(201, "Created"),
    NAME(202, "Accepted"),
    NAME(203, "Non-Authoritative Information"),
    NAME(204, "No Content"),
    NAME(205, "Reset Content"),
    NAME(206, "Partial Content"),
    NAME(207, "Multi-Status"),
    NAME(208, "Already Reported"),
    NAME(226, "IM Used"),
    NAME(300, "Multiple Choices"),
    NAME(301, "Moved Permanently"),
    NAME(302, "Found"),
    NAME(303, "See Other"),
    NAME(304, "Not Modified"),
    NAME(305, "Use Proxy"),
    NAME(307, "Temporary Redirect"),
    NAME(308, "Permanent Redirect"),
    NAME(400, "Bad Request"),
    NAME(401, "Unauthorized"),
    NAME(402, "Payment Required"),
    NAME(403, "Forbidden"),
    NAME(404, "Not Found"),
    NAME(405, "Method Not Allowed"),
    NAME(406, "Not Acceptable"),
    NAME(407, "Proxy Authentication Required"),
    NAME(408, "Request Timeout"),
    NAME(409, "Conflict"),
    NAME(410, "Gone"),
    NAME(411, "Length Required"),
    NAME(412, "Precondition Failed"),
    NAME(413, "Content Too Large"),
    NAME(414, "URI Too Long"),
    NAME(415, "Unsupported Media Type"),
    NAME(416, "Range Not Satisfiable"),
    NAME(417, "Expectation Failed"),
    NAME(421, "Misdirected Request"),
    NAME(422, "Unprocessable Content"),
    NAME(423, "Locked"),
    NAME(424, "Failed Dependency"),
    NAME(425, "Too Early"),
    NAME(426, "Upgrade Required"),
    NAME(428, "Precondition Required"),
    NAME(429, "Too Many Requests"),
    NAME(431, "Request Header Fields Too Large"),
    NAME(451, "Unavailable For Legal Reasons"),
    NAME(500, "Internal Server Error"),
    NAME(501, "Not Implemented"),
    NAME(502, "Bad Gateway"),
    NAME(503, "Service Unavailable"),
    NAME(504, "Gateway Timeout"),
    NAME(505, "HTTP Version Not Supported"),
    NAME(506, "Variant Also Negotiates"),
    NAME(507, "Insufficient Storage"),
    NAME(508, "Loop Detected"),
    NAME(511, "Network Authentication Required"),
};

struct str h1_reason(unsigned status)
{
    if (status < STATUS_MIN || status > STATUS_MAX || !reasons[status - STATUS_MIN].p)
        return STR("");
    return reasons[status - STATUS_MIN];
}

static char *h1write_put(char *at, struct str s)
{
    if (s.n > 0)
        memcpy(at, s.p, s.n);
    return at + s.n;
}

static bool h1write_is_text(struct str s)
{
    return field_text_len(s) == s.n;
}

static bool h1write_is_safe_target(struct str s)
{
    return s.n > 0 && h1write_is_text(s) && str_find_char(s, ' ') < 0 && str_find_char(s, '\t') < 0;
}

static bool h1write_is_safe_start(enum h1_kind kind, const struct head *h)
{
    if (kind == H1_RESPONSE)
        return h->status >= STATUS_MIN && h->status <= STATUS_MAX;
    return field_is_token(h->method) && h1write_is_safe_target(h->target);
}

static char *h1write_put_start(char *at, enum h1_kind kind, const struct head *h, struct str reason)
{
    char digits[3] = { (char)('0' + h->status / 100 % 10), (char)('0' + h->status / 10 % 10),
        (char)('0' + h->status % 10) };

    if (kind == H1_RESPONSE) {
        at = h1write_put(at, STR("HTTP/1.1 "));
        at = h1write_put(at, str_make(digits, sizeof(digits)));
        at = h1write_put(at, STR(" "));
        at = h1write_put(at, reason);
        return h1write_put(at, STR("\r\n"));
    }
    at = h1write_put(at, h->method);
    at = h1write_put(at, STR(" "));
    at = h1write_put(at, h->target);
    return h1write_put(at, STR(" HTTP/1.1\r\n"));
}

int h1_write_head(struct buf *out, enum h1_kind kind, const struct head *h)
{
    /* "HTTP/1.1 200 " or the blank and " HTTP/1.1" of a request line, two line ends. */
    size_t most = 13 + 4 + h->method.n + h->target.n;
    struct str reason = h->reason;
    char *begin, *at;

    if (!h1write_is_safe_start(kind, h))
        return -1;
    if (reason.n == 0 || !h1write_is_text(reason))
        reason = h1_reason(h->status);
    most += reason.n;
    for (size_t i = 0; i < h->nfields; i++)
        most += h->fields[i].name.n + h->fields[i].value.n + 4; /* ": " and the line end */
    begin = buf_reserve(out, most, NULL);
    if (!begin)
        return -1;
    at = h1write_put_start(begin, kind, h, reason);
    for (size_t i = 0; i < h->nfields; i++) {
        const struct field *f = &h->fields[i];

        if (!field_is_token(f->name) || !h1write_is_text(f->value)) {
            buf_settle(out);
            return -1;
        }
        at = h1write_put(at, f->name);
        at = h1write_put(at, STR(": "));
        at = h1write_put(at, f->value);
        at = h1write_put(at, STR("\r\n"));
    }
    at = h1write_put(at, STR("\r\n"));
    buf_commit(out, (size_t)(at - begin));
    return 0;
}
