/* The values that count, wherever they stand in the body. */
#include "upstream/estimate.h"

#include "base/num.h"
#include "llm/scanner.h"
#include "upstream/meter.h"

enum { BYTES_PER_TOKEN = 4, SCAN_MAX = 256 << 10, READ_STEP = 16 << 10 };

static const struct scanner_path paths[] = { { { "model" } }, { { "max_tokens" } },
    { { "max_completion_tokens" } }, { { "max_output_tokens" } },
    { { "generationConfig", "maxOutputTokens" } } };

static void estimate_on_value(void *owner, unsigned path, const struct scanner_value *v)
{
    struct estimate *e = owner;
    uint64_t n;

    if (path == 0 && v->type == SCANNER_STRING) {
        struct siphash h;

        meter_hash(&h);
        siphash_add(&h, v->text);
        e->model = siphash_end(&h);
    } else if (path > 0 && v->type == SCANNER_NUMBER && num_parse_u64(v->text, &n)) {
        e->output = n < UINT32_MAX / 2 ? (uint32_t)n : UINT32_MAX / 2;
    }
}

void estimate_read(const struct piece *body, struct estimate *out)
{
    uint64_t tokens = (body->len + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN;
    char scratch[READ_STEP];
    struct scanner j;

    *out =
        (struct estimate){ .input = tokens < UINT32_MAX / 2 ? (uint32_t)tokens : UINT32_MAX / 2 };
    scanner_init(&j, paths, sizeof(paths) / sizeof(*paths), false, estimate_on_value, out);
    for (uint64_t at = 0; at < body->len && at < SCAN_MAX;) {
        uint64_t left = body->len - at;
        size_t n = left < READ_STEP ? (size_t)left : READ_STEP;
        struct str data = str_make(body->body ? NULL : body->mem + at, n);

        if (body->body && body_read(body->body, body->off + at, n, scratch, &data) < 0)
            return;
        if (data.n == 0 || !scanner_feed(&j, data))
            return;
        at += data.n;
    }
}
