/* One block, directly from the kernel: when a large block is freed, malloc() raises the amount of
 * memory that it keeps. */
#include "base/reserve.h"

#include <stdlib.h>
#include <sys/mman.h>

static struct {
    void *block;
    bool spent;
} reserve;

static void reserve_give_back(void)
{
    if (reserve.block)
        munmap(reserve.block, RESERVE_SIZE);
    reserve.block = NULL;
}

bool reserve_fill(void)
{
    void *p;

    if (!reserve.block) {
        p = mmap(NULL, RESERVE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        reserve.block = p == MAP_FAILED ? NULL : p;
    }
    if (reserve.block)
        reserve.spent = false;
    return reserve.block != NULL;
}

bool reserve_is_spent(void)
{
    return reserve.spent;
}

void reserve_release(void)
{
    reserve_give_back();
    reserve.spent = false;
}

void *reserve_realloc(void *p, size_t n)
{
    void *q;

    if (n == 0) {
        free(p);
        return NULL;
    }
    q = realloc(p, n);
    if (q || !reserve.block)
        return q;
    reserve_give_back();
    reserve.spent = true;
    return realloc(p, n);
}
