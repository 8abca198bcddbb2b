/* Frames (RFC 6455 5.2), and the few events that a client waits for. */
#include "realtime.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define FRAME_MAX (1u << 20)

enum { TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

bool realtime_is_asked(const struct ask *ask)
{
    const char *upgrade = ask_field(ask, "upgrade");

    return upgrade && strcasecmp(upgrade, "websocket") == 0 &&
           strncmp(ask->target, "/v1/realtime", 12) == 0 && ask_field(ask, "sec-websocket-key") &&
           ask_field(ask, "authorization") && !ask_field(ask, "x-provider-fault");
}

static void say(struct text *out, int opcode, const char *p, size_t n)
{
    char head[10] = { (char)(0x80 | opcode) };
    size_t used = 2;

    if (n < 126) {
        head[1] = (char)n;
    } else if (n < 65536) {
        head[1] = 126;
        head[used++] = (char)(n >> 8);
        head[used++] = (char)n;
    } else {
        head[1] = 127;
        for (int shift = 56; shift >= 0; shift -= 8)
            head[used++] = (char)((uint64_t)n >> shift);
    }
    text_add(out, head, used);
    text_add(out, p, n);
}

static void say_event(struct text *out, const char *json)
{
    say(out, TEXT, json, strlen(json));
}

void realtime_begin(const struct ask *ask, struct text *out)
{
    const char *protocols = ask_field(ask, "sec-websocket-protocol");
    unsigned char digest[SHA_DIGEST_LENGTH];
    char key[128], accept[32];

    snprintf(key, sizeof key, "%.60s258EAFA5-E914-47DA-95CA-C5AB0DC85B11",
        ask_field(ask, "sec-websocket-key"));
    SHA1((unsigned char *)key, strlen(key), digest);
    EVP_EncodeBlock((unsigned char *)accept, digest, sizeof digest);
    text_printf(out,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: %s\r\n%s\r\n",
        accept,
        protocols && strncmp(protocols, "realtime", 8) == 0 ? "Sec-WebSocket-Protocol: realtime\r\n"
                                                            : "");
    say_event(out, "{\"type\":\"session.created\",\"event_id\":\"event_1\","
                   "\"session\":{\"type\":\"realtime\",\"id\":\"sess_1\"}}");
}

static bool is_of(const char *p, size_t n, const char *type)
{
    return memmem(p, n, type, strlen(type)) != NULL;
}

static void answer(struct text *out, int opcode, const char *p, size_t n)
{
    if (opcode == TEXT && is_of(p, n, "\"session.update\"")) {
        say_event(out, "{\"type\":\"session.updated\",\"event_id\":\"event_2\","
                       "\"session\":{\"type\":\"realtime\",\"id\":\"sess_1\"}}");
    } else if (opcode == TEXT && is_of(p, n, "\"response.create\"")) {
        say_event(out, "{\"type\":\"response.output_text.delta\",\"event_id\":\"event_3\","
                       "\"response_id\":\"resp_1\",\"item_id\":\"item_1\",\"output_index\":0,"
                       "\"content_index\":0,\"delta\":\"echo\"}");
        say_event(out,
            "{\"type\":\"response.done\",\"event_id\":\"event_4\",\"response\":{\"id\":\"resp_1\","
            "\"object\":\"realtime.response\",\"status\":\"completed\",\"output\":[],"
            "\"usage\":{\"total_tokens\":12,\"input_tokens\":9,\"output_tokens\":3}}}");
    } else {
        say(out, opcode, p, n);
    }
}

/* The length of the frame's head, and that of its payload; 0: more is needed. */
static size_t read_head(const unsigned char *p, size_t n, uint64_t *length)
{
    size_t more = n < 2 ? 0 : (p[1] & 0x7f) == 126 ? 2 : (p[1] & 0x7f) == 127 ? 8 : 0;

    if (n < 2 || n < 2 + more + 4)
        return 0;
    *length = more ? 0 : p[1] & 0x7f;
    for (size_t i = 0; i < more; i++)
        *length = *length << 8 | p[2 + i];
    return 2 + more + 4;
}

ssize_t realtime_take(char *p, size_t n, struct text *out)
{
    uint64_t length = 0;
    size_t head = read_head((unsigned char *)p, n, &length);
    int opcode = head ? p[0] & 0x0f : 0;

    if (!head)
        return 0;
    if (!(p[1] & 0x80) || length > FRAME_MAX) { /* not masked (RFC 6455 5.1), or too large */
        say(out, CLOSE, length > FRAME_MAX ? "\x03\xf1" : "\x03\xea", 2);
        return -1;
    }
    if (n < head + length)
        return 0;
    for (size_t i = 0; i < length; i++)
        p[head + i] ^= p[head - 4 + i % 4];
    if (opcode == CLOSE) {
        say(out, CLOSE, p + head, length < 2 ? 0 : 2);
        return -1;
    }
    if (opcode == PING)
        say(out, PONG, p + head, (size_t)length);
    else if (opcode != PONG)
        answer(out, opcode, p + head, (size_t)length);
    return (ssize_t)(head + length);
}
