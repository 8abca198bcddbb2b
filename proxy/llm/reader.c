/* An event stream's events, or one document, by the table of their API. */
#include "llm/reader.h"

#include <stdlib.h>

#include "base/num.h"
#include "llm/scanner.h"
#include "llm/sse.h"

struct reader_text {
    unsigned char n;
    char p[SCANNER_TEXT_MAX];
};

/* Numbers as the service says them; `known` has a bit for each. */
enum count {
    COUNT_INPUT,
    COUNT_MORE,
    COUNT_CACHED,
    COUNT_BESIDE,
    COUNT_OUTPUT,
    COUNT_REASONING,
    COUNT_REASONING_BESIDE
};
#define NCOUNTS 7

struct reader {
    const struct llm_table *table;
    enum llm_api api;
    struct sse sse;
    struct scanner json;
    struct reader_text response_id;
    struct reader_text error_type, error_code, error_message, error_detail;
    uint64_t counts[NCOUNTS], known;
    uint64_t contents;
    uint64_t retry_ms;
    unsigned char done_at; /* how much of the table's `done` the event's data has been so far */
    bool not_done;         /* the data is something else */
    bool event_stream, started, finished, terminal, retry_known;
    bool error_begun; /* the event or document at hand is an error */
    bool error;       /* one that is complete */
    bool malformed;
    bool bare; /* one document, whatever its type says */
};

static void reader_keep(struct reader_text *w, struct str text)
{
    w->n = (unsigned char)(text.n < sizeof(w->p) ? text.n : sizeof(w->p));
    memcpy(w->p, text.p, w->n);
}

static struct str reader_text(const struct reader_text *w)
{
    return str_make(w->p, w->n);
}

/* "17s" or "0.5s" */
static void reader_take_delay(struct reader *r, struct str text)
{
    struct str whole, fraction;
    uint64_t s, ms = 0;

    if (text.n == 0 || text.p[text.n - 1] != 's')
        return;
    str_cut(str_make(text.p, text.n - 1), '.', &whole, &fraction);
    if (fraction.n > 3)
        fraction.n = 3;
    if (!num_parse_u64(whole, &s) || s > UINT32_MAX ||
        (fraction.n && !num_parse_u64(fraction, &ms)))
        return;
    for (size_t i = fraction.n; i < 3; i++)
        ms *= 10;
    r->retry_ms = s * 1000 + ms;
    r->retry_known = true;
}

static void reader_take_count(struct reader *r, enum count c, const struct scanner_value *v)
{
    uint64_t n;

    if (v->type != SCANNER_NUMBER || !num_parse_u64(v->text, &n) || n > UINT32_MAX)
        return;
    r->counts[c] = n;
    r->known |= UINT64_C(1) << c;
}

static bool reader_is_content(const struct scanner_value *v)
{
    return v->type == SCANNER_OBJECT || v->type == SCANNER_NUMBER ||
           (v->type == SCANNER_STRING && v->length > 0);
}

static void reader_take_event(struct reader *r, enum llm_event e)
{
    r->contents += e == EVENT_CONTENT;
    r->terminal = r->terminal || e == EVENT_TERMINAL;
    r->error_begun = r->error_begun || e == EVENT_ERROR;
}

static void reader_on_value(void *owner, unsigned path, const struct scanner_value *v)
{
    struct reader *r = owner;

    switch (r->table->senses[path]) {
    case SENSE_TYPE:
        reader_take_event(r, api_event(r->api, v->text));
        break;
    case SENSE_CONTENT:
        r->contents += reader_is_content(v);
        break;
    case SENSE_ROLE:
        r->contents -= reader_is_content(v);
        break;
    case SENSE_FINISH:
        r->finished = r->finished || (v->type == SCANNER_STRING && v->length > 0);
        break;
    case SENSE_ERROR:
        r->error_begun = r->error_begun || v->type == SCANNER_OBJECT ||
                         (v->type == SCANNER_STRING && v->length > 0);
        if (v->type == SCANNER_STRING)
            reader_keep(&r->error_message, v->text);
        break;
    case SENSE_ERROR_TYPE:
        reader_keep(&r->error_type, v->text);
        break;
    case SENSE_ERROR_CODE:
        if (v->type == SCANNER_STRING)
            reader_keep(&r->error_code, v->text);
        break;
    case SENSE_ERROR_MESSAGE:
        reader_keep(&r->error_message, v->text);
        break;
    case SENSE_ERROR_DETAIL:
        reader_keep(&r->error_detail, v->text);
        break;
    case SENSE_RETRY_DELAY:
        reader_take_delay(r, v->text);
        break;
    case SENSE_INPUT:
        reader_take_count(r, COUNT_INPUT, v);
        break;
    case SENSE_INPUT_MORE:
        reader_take_count(r, COUNT_MORE, v);
        break;
    case SENSE_CACHED:
        reader_take_count(r, COUNT_CACHED, v);
        break;
    case SENSE_CACHED_BESIDE:
        reader_take_count(r, COUNT_BESIDE, v);
        break;
    case SENSE_OUTPUT:
        reader_take_count(r, COUNT_OUTPUT, v);
        break;
    case SENSE_REASONING:
        reader_take_count(r, COUNT_REASONING, v);
        break;
    case SENSE_REASONING_BESIDE:
        reader_take_count(r, COUNT_REASONING_BESIDE, v);
        break;
    case SENSE_ID:
        break;
    case SENSE_RESPONSE_ID:
        if (v->type == SCANNER_STRING)
            reader_keep(&r->response_id, v->text);
        break;
    }
}

/* Whether the event's data, so far, is the table's word for the end. */
static void reader_match_done(struct reader *r, struct str piece)
{
    size_t n = r->table->done ? strlen(r->table->done) : 0;

    if (n == 0 || r->not_done || piece.n > n - r->done_at ||
        memcmp(r->table->done + r->done_at, piece.p, piece.n) != 0)
        r->not_done = true;
    else
        r->done_at = (unsigned char)(r->done_at + piece.n);
}

static void reader_on_data(void *owner, struct str piece)
{
    struct reader *r = owner;

    reader_match_done(r, piece);
    scanner_feed(&r->json, piece);
}

static void reader_on_event(void *owner, struct str name, bool has_data)
{
    struct reader *r = owner;
    const char *done = r->table->done;

    if (has_data && done && !r->not_done && r->done_at == strlen(done))
        r->terminal = true;
    else if (has_data && !scanner_complete(&r->json))
        r->malformed = true;
    /* Their data has the same name in "type". */
    if (name.n > 0 && r->api != LLM_RESPONSES && r->api != LLM_MESSAGES)
        reader_take_event(r, api_event(r->api, name));
    r->error = r->error || r->error_begun;
    r->done_at = 0;
    r->not_done = false;
    scanner_reset(&r->json);
}

static const struct sse_events events = { .on_data = reader_on_data, .on_event = reader_on_event };

struct reader *reader_new(enum llm_api api, bool event_stream)
{
    struct reader *r = calloc(1, sizeof(*r));

    if (!r)
        return NULL;
    r->api = api;
    r->table = api_table(api);
    r->event_stream = event_stream;
    sse_init(&r->sse, &events, r);
    scanner_init(&r->json, r->table->paths, r->table->npaths, true, reader_on_value, r);
    return r;
}

void reader_free(struct reader *r)
{
    free(r);
}

/* Services at times send an error as bare JSON where a stream of events was to come. */
static void reader_look_at_start(struct reader *r, struct str piece)
{
    for (size_t i = 0; i < piece.n && !r->started; i++) {
        char c = piece.p[i];

        if (c == ' ' || c == '\n' || c == '\r' || c == '\t')
            continue;
        r->started = true;
        r->bare = c == '{' || c == '[';
    }
}

void reader_feed(struct reader *r, struct str piece)
{
    reader_look_at_start(r, piece);
    if (r->event_stream && !r->bare) {
        sse_feed(&r->sse, piece);
        return;
    }
    r->malformed = !scanner_feed(&r->json, piece) || r->malformed;
    r->error = r->error || (r->error_begun && scanner_complete(&r->json));
}

bool reader_has_content(const struct reader *r)
{
    if (r->api == LLM_OTHER)
        return r->started;
    return r->contents > 0 || r->finished || r->terminal;
}

uint64_t reader_contents(const struct reader *r)
{
    return r->contents;
}

bool reader_is_malformed(const struct reader *r)
{
    return r->malformed ||
           (!r->event_stream && r->started && r->api != LLM_OTHER && !scanner_complete(&r->json));
}

bool reader_is_complete(const struct reader *r)
{
    if (!r->table->needs_terminal || !r->event_stream)
        return true;
    return r->terminal || (r->finished && r->api == LLM_GEMINI);
}

bool reader_has_error(const struct reader *r)
{
    return r->error;
}

enum llm_error reader_error(const struct reader *r, unsigned status)
{
    if (!r->error && !r->error_begun && status < 400)
        return LLM_ERROR_NONE;
    return api_error(status < 400 ? 0 : status, reader_text(&r->error_type),
        reader_text(&r->error_code), reader_text(&r->error_message), reader_text(&r->error_detail));
}

struct str reader_error_word(const struct reader *r)
{
    return r->error_code.n ? reader_text(&r->error_code) : reader_text(&r->error_type);
}

struct str reader_response_id(const struct reader *r)
{
    return reader_text(&r->response_id);
}

bool reader_retry_delay(const struct reader *r, uint64_t *ms)
{
    *ms = r->retry_ms;
    return r->retry_known;
}

static uint32_t reader_tokens(uint64_t n)
{
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

static unsigned char reader_told(const struct reader *r)
{
    static const unsigned char told[NCOUNTS] = {
        [COUNT_INPUT] = LLM_TOLD_INPUT,
        [COUNT_MORE] = LLM_TOLD_INPUT,
        [COUNT_CACHED] = LLM_TOLD_CACHED,
        [COUNT_BESIDE] = LLM_TOLD_CACHED,
        [COUNT_OUTPUT] = LLM_TOLD_OUTPUT,
        [COUNT_REASONING] = LLM_TOLD_REASONING,
        [COUNT_REASONING_BESIDE] = LLM_TOLD_REASONING,
    };
    unsigned char all = 0;

    for (size_t i = 0; i < NCOUNTS; i++)
        if (r->known & UINT64_C(1) << i)
            all |= told[i];
    return all;
}

struct llm_usage reader_usage(const struct reader *r)
{
    const uint64_t *n = r->counts;

    return (struct llm_usage){
        .known = r->known != 0,
        .told = reader_told(r),
        .input = reader_tokens(n[COUNT_INPUT] + n[COUNT_MORE] + n[COUNT_BESIDE]),
        .output = reader_tokens(n[COUNT_OUTPUT] + n[COUNT_REASONING_BESIDE]),
        .cached = reader_tokens(n[COUNT_CACHED] + n[COUNT_BESIDE]),
        .reasoning = reader_tokens(n[COUNT_REASONING] + n[COUNT_REASONING_BESIDE]),
    };
}
