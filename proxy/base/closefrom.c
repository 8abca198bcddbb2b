/* close_range(2) came with Linux 5.9 and glibc 2.34, and a container's seccomp filter may refuse
 * it. */
#include "base/closefrom.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436 /* the same number on every architecture */
#endif

/* Closes the descriptors that /proc lists. False: there is no /proc. */
static bool closefrom_close_listed(int first)
{
    DIR *folder = opendir("/proc/self/fd");
    struct dirent *entry;

    if (!folder)
        return false;
    while ((entry = readdir(folder))) {
        int fd = atoi(entry->d_name);

        if (entry->d_name[0] != '.' && fd >= first && fd != dirfd(folder))
            close(fd);
    }
    closedir(folder);
    return true;
}

void close_from(int first)
{
    struct rlimit limit;

    if (syscall(SYS_close_range, first, ~0U, 0) == 0 || closefrom_close_listed(first))
        return;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > 1 << 20)
        limit.rlim_cur = 1 << 20;
    for (int fd = first; fd < (int)limit.rlim_cur; fd++)
        close(fd);
}
