/* getrandom(2) in blocks of a kilobyte: one system call serves about sixty exchanges. Called by its
 * number, because glibc has a function for it only since 2.25. */
#include "base/entropy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static unsigned char pool[1024];
static size_t left;

static void entropy_refill(void)
{
    size_t got = 0;

    while (got < sizeof(pool)) {
        long n = syscall(SYS_getrandom, pool + got, sizeof(pool) - got, 0);

        if (n < 0 && errno != EINTR) {
            perror("tarry: no random numbers from the kernel");
            abort();
        }
        if (n > 0)
            got += (size_t)n;
    }
    left = sizeof(pool);
}

void entropy_fill(void *p, size_t n)
{
    unsigned char *to = p;

    while (n > 0) {
        size_t k;

        if (left == 0)
            entropy_refill();
        k = n < left ? n : left;
        left -= k;
        memcpy(to, pool + left, k);
        memset(pool + left, 0, k);
        to += k;
        n -= k;
    }
}

uint64_t entropy_below(uint64_t bound)
{
    uint64_t v;

    entropy_fill(&v, sizeof(v));
    return v % bound;
}

void entropy_id(char out[ENTROPY_ID_LEN + 1])
{
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";
    unsigned char raw[ENTROPY_ID_LEN];

    entropy_fill(raw, sizeof(raw));
    for (size_t i = 0; i < ENTROPY_ID_LEN; i++)
        out[i] = alphabet[raw[i] & 31];
    out[ENTROPY_ID_LEN] = '\0';
}

void entropy_forget(void)
{
    memset(pool, 0, sizeof(pool));
    left = 0;
}
