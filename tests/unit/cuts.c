/* Cutting inputs. */
#include "cuts.h"

#include <check.h>
#include <sys/mman.h>
#include <unistd.h>

enum { RANDOM_WAYS = 24, GUARDED_MAX = 1 << 20 };

bool cuts_next(struct cuts *c)
{
    size_t in_two = c->n > 1 ? c->n - 1 : 0;

    c->way++;
    c->random = c->way * UINT64_C(0x9e3779b97f4a7c15);
    return c->way <= 1 + in_two + 1 + RANDOM_WAYS;
}

size_t cuts_end(struct cuts *c, size_t at)
{
    size_t in_two = c->n > 1 ? c->n - 1 : 0;
    size_t step;

    if (c->way == 1)
        return c->n;
    if (c->way <= 1 + in_two)
        return at < c->way - 1 ? c->way - 1 : c->n;
    if (c->way == 1 + in_two + 1)
        return at + 1;
    c->random = c->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    step = 1 + (size_t)(c->random >> 33) % (c->way % 2 ? 7 : 1 + c->n / 2);
    return step < c->n - at ? at + step : c->n;
}

struct str cuts_guarded(struct str s)
{
    static char *end;
    char *p;

    if (!end) {
        size_t page = (size_t)sysconf(_SC_PAGESIZE);
        char *mem = mmap(
            NULL, GUARDED_MAX + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        ck_assert(mem != MAP_FAILED);
        end = mem + GUARDED_MAX;
        ck_assert_int_eq(mprotect(end, page, PROT_NONE), 0);
    }
    ck_assert_uint_le(s.n, GUARDED_MAX);
    p = end - s.n;
    if (s.n > 0)
        memcpy(p, s.p, s.n);
    return str_make(p, s.n);
}
