/* Values by their offsets; a field that stands there twice is left alone. */
#include "llm/askusage.h"

enum { ASK_ROOT, ASK_STREAM, ASK_OPTIONS, ASK_INCLUDED, ASK_OPTION };

static const struct scanner_path paths[] = {
    [ASK_ROOT] = { { NULL } },
    [ASK_STREAM] = { { "stream" } },
    [ASK_OPTIONS] = { { "stream_options" } },
    [ASK_INCLUDED] = { { "stream_options", "include_usage" } },
    [ASK_OPTION] = { { "stream_options", "*" } },
};

static void askusage_take_options(struct askusage *q, const struct scanner_value *v)
{
    q->told += q->told < 2;
    q->options = v->start;
    q->options_end = v->end;
    q->open = q->empty = v->type == SCANNER_OBJECT;
    q->null = v->type == SCANNER_NULL;
    q->odd = q->odd || !(q->open || q->null);
}

static void askusage_on_value(void *owner, unsigned path, const struct scanner_value *v)
{
    struct askusage *q = owner;

    switch (path) {
    case ASK_ROOT:
        q->object = v->type == SCANNER_OBJECT;
        q->root = v->start;
        break;
    case ASK_STREAM:
        q->streams += q->streams < 2;
        q->stream = v->type == SCANNER_TRUE;
        break;
    case ASK_OPTIONS:
        askusage_take_options(q, v);
        break;
    case ASK_INCLUDED:
        q->odd = true; /* the client has decided */
        break;
    case ASK_OPTION:
        q->empty = false;
        break;
    }
}

void askusage_init(struct askusage *q)
{
    *q = (struct askusage){ .object = false };
    scanner_init(&q->json, paths, sizeof(paths) / sizeof(*paths), false, askusage_on_value, q);
}

void askusage_feed(struct askusage *q, struct str piece)
{
    q->bad = q->bad || !scanner_feed(&q->json, piece);
}

bool askusage_edit(const struct askusage *q, struct askusage_edit *edit)
{
    if (q->bad || q->odd || !q->object || !q->stream || q->streams != 1 || q->told > 1 ||
        !scanner_complete(&q->json))
        return false;
    if (q->told == 0)
        *edit = (struct askusage_edit){ q->root + 1, q->root + 1,
            STR("\"stream_options\":{\"include_usage\":true},") };
    else if (q->null)
        *edit =
            (struct askusage_edit){ q->options, q->options_end, STR("{\"include_usage\":true}") };
    else
        *edit = (struct askusage_edit){ q->options + 1, q->options + 1,
            q->empty ? STR("\"include_usage\":true") : STR("\"include_usage\":true,") };
    return true;
}
