/* What workers are given of an upstream's response: an octet of flags, then the response as it
 * came. The enclosed message must be read by a strict reader as one response of just that body,
 * whatever the upstream sent. */
#include "exchange/answer.h"
#include "http/fields.h"
#include "http/h1parse.h"
#include "laws.h"
#include "net/loop.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { FLAG_FAILED = 1, FLAG_CALL_ID = 2, FLAG_SMALL_MEMORY = 4, FLAG_TWO_PIECES = 8 };
enum { INPUT_MAX = 8192, RESPONSE_MAX = 1000, FIELDS_MAX = 40 };

static struct upstream_conf upstream = { .name = STR_INIT("ai"), .response_max = RESPONSE_MAX };
static struct conf conf = { .refs = 1, .temp_dir = STR_INIT("/tmp"), .header_max = 4096 };

/* The fields that came are there, in order, but for those that describe the connection, the framing
 * or Tarry; and so are Tarry's own. */
static void check_fields(const struct head *came, const struct head *text, const struct enclosed *e)
{
    size_t k = 0;

    for (size_t i = 0; i < came->nfields; i++) {
        struct str name = came->fields[i].name;

        if (field_ends_here(came, name) || field_is_tarry(name) ||
            str_eq_nocase(name, STR("content-length")))
            continue;
        HOLDS(k < text->nfields && str_eq(text->fields[k].name, name));
        HOLDS(str_eq(text->fields[k].value, came->fields[i].value));
        k++;
    }
    HOLDS(k + 3 + (e->call_id.p != NULL) == text->nfields);
}

static void check_text(const struct answer *an, const struct head *came, bool failed)
{
    static const struct h1_limits wide = { .head_max = 1 << 16,
        .fields_max = 100,
        .target_max = 100,
        .interim_max = 16,
        .chunk_line_max = 4096,
        .chunk_overhead_max = 65536 };
    struct field fields[100];
    struct head text = { .fields = fields };
    struct h1_scan scan = { 0 };
    struct h1_message m;

    HOLDS(h1_parse_head(&scan, H1_RESPONSE, &wide, an->text, &text) == (ssize_t)an->text.n);
    HOLDS(h1_check_response(&text, STR("GET"), &m) == 0);
    HOLDS(head_count(&text, STR("content-length")) == 1);
    HOLDS(!head_find(&text, STR("transfer-encoding")) && !head_find(&text, STR("connection")));
    HOLDS(m.framing == H1_NO_BODY || (m.framing == H1_LENGTH && m.length == body_size(&an->body)));
    HOLDS(body_size(&an->body) <= RESPONSE_MAX);
    HOLDS(
        head_count(&text, STR("tarry-attempts")) == 1 && head_count(&text, STR("tarry-time")) == 1);
    HOLDS(head_count(&text, STR("tarry-call-id")) == (an->enclosed->call_id.p != NULL));
    if (failed) {
        HOLDS(text.status >= 500 && head_find(&text, STR("proxy-status")));
        return;
    }
    HOLDS(text.status == came->status);
    check_fields(came, &text, an->enclosed);
}

static int take(struct answer *an, struct str body, bool two_pieces)
{
    size_t cut = two_pieces ? body.n / 2 : body.n;
    int rc = answer_take_data(an, str_make(body.p, cut));

    if (rc == 0 && cut < body.n)
        rc = answer_take_data(an, str_make(body.p + cut, body.n - cut));
    return rc;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    HOLDS(loop_init() == 0);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct h1_limits limits = { .head_max = 4096,
        .fields_max = FIELDS_MAX,
        .target_max = 100,
        .interim_max = 16,
        .chunk_line_max = 4096,
        .chunk_overhead_max = 65536 };
    struct field fields[FIELDS_MAX];
    struct head came = { .fields = fields };
    struct h1_scan scan = { 0 };
    struct h1_message m;
    struct answer_facts facts = { .attempts = 1 };
    struct answers answers = { 0 };
    struct arena arena = { 0 };
    struct enclosed e = { .upstream = &upstream, .method = STR("GET") };
    struct answer *an;
    bool failed;
    struct str in;
    ssize_t k;

    if (n < 1 || n > INPUT_MAX)
        return 0;
    in = str_make((const char *)data + 1, n - 1);
    k = h1_parse_head(&scan, H1_RESPONSE, &limits, in, &came);
    if (k <= 0 || came.status < 200 || h1_check_response(&came, STR("GET"), &m) < 0)
        return 0;
    if (data[0] & FLAG_CALL_ID)
        e.call_id = STR("draft");
    conf.body_memory_max = data[0] & FLAG_SMALL_MEMORY ? 16 : 1 << 20;
    failed = data[0] & FLAG_FAILED;
    an = answer_new(&answers, &arena, &conf, &e);
    HOLDS(an && answer_take_head(an, &arena, &came) == 0);
    /* A response with such a status has no body on any version's wire. */
    if (m.framing != H1_NO_BODY &&
        take(an, str_make(in.p + k, in.n - (size_t)k), data[0] & FLAG_TWO_PIECES) < 0)
        failed = true;
    HOLDS(answer_finish(
              an, &arena, "fuzz", failed ? PROBLEM_CALL_TOO_LARGE : PROBLEM_NONE, &facts) == 0);
    check_text(an, &came, failed);
    answers_release(&answers);
    arena_release(&arena);
    return 0;
}
