/* Prints the tables of the state machines, as docs/internals.md has them. */
#include <stdio.h>

#include "machines.h"

int main(void)
{
    struct buf out = { 0 };
    struct str s;

    machines_print(&out);
    s = buf_str(&out);
    fwrite(s.p, 1, s.n, stdout);
    buf_release(&out);
    return 0;
}
