/* One slice of one file a turn. */
#include "http/filereaper.h"

#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/list.h"
#include "net/deadline.h"

enum { SLICE = 4 << 20, PAUSE_MS = 1 };

struct reaped {
    struct list_node node;
    uint64_t left;
    int fd;
};

static struct {
    struct list files;
    struct deadline next;
    bool begun;
} reaper;

static void filereaper_close(struct reaped *f)
{
    list_remove(&f->node);
    close(f->fd);
    free(f);
}

static void filereaper_on_deadline(void *owner)
{
    struct reaped *f = LIST_OWNER(list_first(&reaper.files), struct reaped, node);

    f->left -= f->left < SLICE ? f->left : SLICE;
    if (f->left == 0 || ftruncate(f->fd, (off_t)f->left) < 0)
        filereaper_close(f);
    if (list_first(&reaper.files))
        deadline_set(&reaper.next, PAUSE_MS);
}

void filereaper_take(int fd, uint64_t size)
{
    struct reaped *f = size > SLICE ? calloc(1, sizeof(*f)) : NULL;

    if (!f) {
        close(fd);
        return;
    }
    if (!reaper.begun) {
        list_init(&reaper.files);
        deadline_init(&reaper.next, filereaper_on_deadline, NULL);
        reaper.begun = true;
    }
    f->fd = fd;
    f->left = size;
    list_push(&reaper.files, &f->node);
    if (!deadline_is_set(&reaper.next))
        deadline_set(&reaper.next, PAUSE_MS);
}

size_t filereaper_count(void)
{
    return reaper.begun ? reaper.files.count : 0;
}
