/* Runs: what was sent, and the open answer. */
#include "exchange/run.h"

#include <inttypes.h>
#include <string.h>

#include "base/buf.h"
#include "exchange/call.h"
#include "http/h1write.h"

int run_count(struct run *r, struct str data)
{
    size_t keep = data.n < sizeof(r->tail) ? sizeof(r->tail) - data.n : 0;

    if (!r->sha) {
        r->sha = EVP_MD_CTX_new();
        if (!r->sha || EVP_DigestInit_ex(r->sha, EVP_sha256(), NULL) != 1)
            return -1;
    }
    if (EVP_DigestUpdate(r->sha, data.p, data.n) != 1)
        return -1;
    r->sent += data.n;
    memmove(r->tail, r->tail + sizeof(r->tail) - keep, keep);
    memcpy(r->tail + keep, data.p + data.n - (sizeof(r->tail) - keep), sizeof(r->tail) - keep);
    return 0;
}

struct str run_sent_text(const struct run *r, struct arena *a)
{
    unsigned char digest[EVP_MAX_MD_SIZE], text[EVP_MAX_MD_SIZE * 2];
    EVP_MD_CTX *copy = EVP_MD_CTX_new(); /* the original goes on */
    struct str out = { 0 };
    unsigned n = 0;

    if (copy && EVP_MD_CTX_copy_ex(copy, r->sha) == 1 &&
        EVP_DigestFinal_ex(copy, digest, &n) == 1 && EVP_EncodeBlock(text, digest, (int)n) > 0)
        out = arena_printf(a, "bytes=%" PRIu64 ", sha256=%s", r->sent, (const char *)text);
    EVP_MD_CTX_free(copy);
    return out;
}

bool run_at_empty_line(const struct run *r)
{
    const char *end = r->tail + sizeof(r->tail);

    return r->sent >= 2 && (memcmp(end - 2, "\n\n", 2) == 0 ||
                               (r->sent >= 4 && memcmp(end - 4, "\r\n\r\n", 4) == 0));
}

void run_open(struct run *r, struct answer *an)
{
    r->open = an;
    r->handoff = NULL;
    r->outcome = (struct str){ 0 };
    r->problem = PROBLEM_NONE;
    r->given = 0;
    r->last_given = false;
}

uint64_t run_news(const struct run *r)
{
    return r->open ? body_size(&r->open->body) - r->given : 0;
}

static void run_forget_handoff(struct run *r)
{
    if (r->handoff)
        handoff_release(r->handoff);
    r->handoff = NULL;
}

static void run_note_facts(struct run *r)
{
    if (r->open->call)
        r->facts = answer_facts_of(r->open->call);
}

void run_end_open(struct run *r, struct str outcome, enum problem p)
{
    r->outcome = outcome;
    r->problem = p;
    run_note_facts(r);
    call_close(r->open->call);
    r->open->call = NULL;
    run_forget_handoff(r);
}

int run_add_piece(struct run *r, struct arena *a, uint64_t from, struct head *h)
{
    bool last = r->outcome.p != NULL;
    int rc = head_add(h, a, STR("Tarry-Piece"),
        arena_printf(a, "from=%" PRIu64 "; %s", from, last ? "last" : "more"));

    if (last)
        rc |= head_add(h, a, STR("Tarry-Outcome"), r->outcome);
    if (last && r->problem != PROBLEM_NONE)
        rc |= head_add(h, a, STR("Proxy-Status"),
            arena_printf(a, "tarry; error=%s", problem_error(r->problem)));
    r->given = body_size(&r->open->body);
    r->last_given = last;
    return rc;
}

/* The head of the answer as it stands, with how it is enclosed. */
static int run_write_text(struct run *r, struct arena *a, struct str *out)
{
    const struct answer *an = r->open;
    struct head head = *an->head;
    struct buf text = { 0 };
    int rc;

    head.room = 0; /* the array is the answer's */
    rc = head_add(
        &head, a, STR("Content-Length"), arena_printf(a, "%" PRIu64, body_size(&an->body)));
    if (an->enclosed->call_id.p)
        rc |= head_add(&head, a, STR("Tarry-Call-Id"), an->enclosed->call_id);
    rc |= answer_add_facts(&head, a, &r->facts);
    if (rc == 0)
        rc = run_add_piece(r, a, 0, &head);
    if (rc == 0)
        rc = h1_write_head(&text, H1_RESPONSE, &head);
    if (rc == 0)
        *out = arena_copy(a, buf_str(&text));
    buf_release(&text);
    return rc == 0 && out->p ? 0 : -1;
}

struct str run_open_text(struct run *r, struct arena *a)
{
    struct str text = { 0 };

    run_note_facts(r);
    return run_write_text(r, a, &text) == 0 ? text : (struct str){ 0 };
}

int run_finish_open(struct run *r, struct arena *a)
{
    struct answer *an = r->open;

    if (!r->outcome.p)
        run_end_open(r, STR("cancelled"), PROBLEM_NONE);
    an->text = run_open_text(r, a);
    r->open = NULL;
    return an->text.p ? 0 : -1;
}

void run_release(struct run *r)
{
    batch_leave(&r->member);
    if (r->open)
        call_close(r->open->call);
    if (r->open)
        r->open->call = NULL;
    run_forget_handoff(r);
    parts_release(&r->parts);
    EVP_MD_CTX_free(r->sha);
    r->sha = NULL;
}
