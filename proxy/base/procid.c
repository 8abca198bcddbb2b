/* Linux has at most 2^22 processes; the start, in ticks since the boot, has the other 42 bits. */
#include "base/procid.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PID_BITS = 22, START_FIELD = 22, STAT_MAX = 1024 };

#define PID_MASK ((UINT64_C(1) << PID_BITS) - 1)

/* The state's letter, and the start. False: /proc does not say. */
static bool procid_read(pid_t pid, char *state, uint64_t *start)
{
    char path[32], text[STAT_MAX], *p;
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    p = strrchr(text, ')'); /* the name before it may hold anything */
    if (!p || p[1] != ' ' || !p[2])
        return false;
    *state = p[2];
    p++;
    for (int field = 3; field < START_FIELD && p; field++)
        p = strchr(p + 1, ' ');
    if (p)
        *start = strtoull(p, NULL, 10);
    return p != NULL;
}

uint64_t procid_of(pid_t pid)
{
    uint64_t start = 0;
    char state;

    if (!procid_read(pid, &state, &start))
        start = 0;
    return start << PID_BITS | ((uint64_t)pid & PID_MASK);
}

uint64_t procid_self(void)
{
    static uint64_t word;
    static pid_t whose;

    if (whose != getpid()) {
        whose = getpid();
        word = procid_of(whose);
    }
    return word;
}

bool procid_is_dead(uint64_t id)
{
    pid_t pid = (pid_t)(id & PID_MASK);
    uint64_t start;
    char state;

    if (pid == 0 || (kill(pid, 0) < 0 && errno == ESRCH))
        return true;
    if (!procid_read(pid, &state, &start))
        return false;
    return state == 'Z' || state == 'X' || (id >> PID_BITS != 0 && id >> PID_BITS != start);
}
