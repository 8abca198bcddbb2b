/* Streams that note. */
#include "fakestream.h"

#include <arpa/inet.h>
#include <check.h>
#include <string.h>

#include "base/list.h"
#include "http/h1write.h"

static struct fake_stream *of(struct stream *s)
{
    struct fake_stream *f = LIST_OWNER(s, struct fake_stream, stream);

    ck_assert_msg(!f->closed, "a stream was used after its close");
    return f;
}

static int op_send_head(struct stream *s, const struct head *head, bool end)
{
    struct fake_stream *f = of(s);

    if (f->error)
        return f->error;
    ck_assert_msg(buf_len(&f->head) == 0, "a second head was sent");
    f->status = head->status;
    ck_assert_int_eq(h1_write_head(&f->head, head->status ? H1_RESPONSE : H1_REQUEST, head), 0);
    f->ended = end;
    return 0;
}

static int op_send_data(struct stream *s, const void *p, size_t n)
{
    struct fake_stream *f = of(s);

    if (f->error)
        return f->error;
    ck_assert_msg(!f->ended, "data after the end");
    ck_assert_int_eq(buf_append(&f->body, p, n), 0);
    return buf_len(&f->body) >= f->room ? STREAM_FULL : 0;
}

static int op_send_end(struct stream *s)
{
    struct fake_stream *f = of(s);

    f->ended = true;
    return f->error;
}

static void op_send_continue(struct stream *s)
{
    of(s)->continued = true;
}

static void op_pause(struct stream *s, bool paused)
{
    of(s)->paused = paused;
}

static void op_reset(struct stream *s, enum stream_reset why)
{
    struct fake_stream *f = of(s);

    f->reset = true;
    f->closed = true;
}

static void op_close(struct stream *s)
{
    struct fake_stream *f = of(s);

    f->reset = !f->ended;
    f->closed = true;
}

static const struct stream_ops ops = {
    .send_head = op_send_head,
    .send_data = op_send_data,
    .send_end = op_send_end,
    .send_continue = op_send_continue,
    .pause = op_pause,
    .reset = op_reset,
    .close = op_close,
};

void fake_stream_init(struct fake_stream *f)
{
    *f = (struct fake_stream){ .room = SIZE_MAX };
    f->peer.family = AF_INET;
    f->peer.port = 40000;
    memcpy(f->peer.ip, "\x7f\0\0\1", 4);
    f->stream.ops = &ops;
    f->stream.peer = &f->peer;
}

void fake_stream_release(struct fake_stream *f)
{
    buf_release(&f->head);
    buf_release(&f->body);
}

static bool has(const struct buf *b, const char *text)
{
    struct str s = buf_str(b);

    return memmem(s.p, s.n, text, strlen(text)) != NULL;
}

bool fake_stream_head_has(const struct fake_stream *f, const char *text)
{
    return has(&f->head, text);
}

bool fake_stream_body_has(const struct fake_stream *f, const char *text)
{
    return has(&f->body, text);
}

void fake_stream_emit(struct fake_stream *f, struct message m)
{
    if (!f->closed)
        stream_emit(&f->stream, m);
}

void fake_stream_data(struct fake_stream *f, const char *text)
{
    fake_stream_emit(f, (struct message){ .kind = MESSAGE_DATA, .data = str_of(text) });
}

void fake_stream_drain(struct fake_stream *f, size_t room)
{
    f->room = room;
    if (!f->closed)
        stream_emit_drained(&f->stream);
}

void fake_stream_half_close(struct fake_stream *f)
{
    if (!f->closed)
        stream_emit_half_closed(&f->stream);
}
