/* Targets of logs. A file is opened for appending: several processes may write to it. */
#include "observe/sink.h"

#include <errno.h>
#include <stdlib.h>
#include <syslog.h>
#include <unistd.h>

#include "conf/file.h"

int sink_open(struct sink *s, const struct log_target *target)
{
    struct sink next = { .kind = target->kind, .fd = -1 };

    if (target->kind == LOG_TO_STDERR)
        next.fd = STDERR_FILENO;
    else if (target->kind == LOG_TO_STDOUT)
        next.fd = STDOUT_FILENO;
    if (target->kind == LOG_TO_FILE) {
        next.path = strndup(target->path.p, target->path.n);
        next.fd = next.path ? file_open(next.path, FILE_APPEND) : -1;
        if (next.fd < 0) {
            int saved = next.path ? errno : ENOMEM;

            free(next.path);
            errno = saved;
            return -1;
        }
    }
    sink_close(s);
    if (target->kind == LOG_TO_SYSLOG)
        openlog("tarry", LOG_PID, LOG_DAEMON);
    *s = next;
    return 0;
}

int sink_reopen(struct sink *s)
{
    int fd;

    if (s->kind != LOG_TO_FILE)
        return 0;
    fd = file_open(s->path, FILE_APPEND);
    if (fd < 0)
        return -1;
    close(s->fd);
    s->fd = fd;
    return 0;
}

void sink_close(struct sink *s)
{
    if (s->kind == LOG_TO_FILE)
        close(s->fd);
    free(s->path);
    *s = (struct sink){ .kind = LOG_TO_NOWHERE, .fd = -1 };
}
