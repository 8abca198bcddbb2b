/* Answers of the services: the first byte picks the API and the kind of answer, the second where
 * the rest is cut. Whole, in two parts and byte by byte, they say the same. */
#include "laws.h"
#include "llm/reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct reader *read_in_steps(
    enum llm_api api, bool stream, struct str s, size_t first, size_t step)
{
    struct reader *r = reader_new(api, stream);

    if (!r)
        abort();
    reader_feed(r, str_make(s.p, first));
    for (size_t at = first; at < s.n; at += step)
        reader_feed(r, str_make(s.p + at, step < s.n - at ? step : s.n - at));
    return r;
}

static void check_same(const struct reader *a, const struct reader *b)
{
    struct llm_usage u = reader_usage(a), v = reader_usage(b);
    uint64_t wait_a, wait_b;

    HOLDS(reader_has_content(a) == reader_has_content(b));
    HOLDS(reader_contents(a) == reader_contents(b));
    HOLDS(reader_is_complete(a) == reader_is_complete(b));
    HOLDS(reader_is_malformed(a) == reader_is_malformed(b));
    HOLDS(reader_has_error(a) == reader_has_error(b));
    HOLDS(reader_error(a, 0) == reader_error(b, 0));
    HOLDS(str_eq(reader_error_word(a), reader_error_word(b)));
    HOLDS(reader_retry_delay(a, &wait_a) == reader_retry_delay(b, &wait_b) && wait_a == wait_b);
    HOLDS(u.known == v.known && u.input == v.input && u.output == v.output &&
          u.cached == v.cached && u.reasoning == v.reasoning);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct reader *whole, *cut, *bytes;
    enum llm_api api;
    struct str s;
    bool stream;

    if (n < 2)
        return 0;
    api = (enum llm_api)(data[0] % LLM_NAPIS);
    stream = data[0] & 0x80;
    s = str_make((const char *)data + 2, n - 2);
    whole = read_in_steps(api, stream, s, s.n, 1);
    cut = read_in_steps(api, stream, s, s.n * data[1] / 256, s.n + 1);
    bytes = read_in_steps(api, stream, s, 0, 1);
    check_same(whole, cut);
    check_same(whole, bytes);
    reader_free(whole);
    reader_free(cut);
    reader_free(bytes);
    return 0;
}
