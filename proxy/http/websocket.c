/* WebSocket's opening handshake. */
#include "http/websocket.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <string.h>

#include "base/entropy.h"

enum { KEY_BYTES = 16 };

static bool websocket_is_base64(char c)
{
    return (str_lower_char(c) >= 'a' && str_lower_char(c) <= 'z') || (c >= '0' && c <= '9') ||
           c == '+' || c == '/';
}

static bool websocket_is_key(struct str s)
{
    if (s.n != WEBSOCKET_KEY_LEN)
        return false;
    for (size_t i = 0; i < WEBSOCKET_KEY_LEN - 2; i++)
        if (!websocket_is_base64(s.p[i]))
            return false;
    return s.p[s.n - 2] == '=' && s.p[s.n - 1] == '=';
}

bool websocket_is_asked(const struct head *request, const struct h1_message *m)
{
    return m->upgrade && str_eq(request->method, STR("GET")) &&
           head_has_token(request, STR("upgrade"), STR("websocket")) &&
           head_count(request, STR("sec-websocket-key")) == 1 &&
           websocket_is_key(head_value(request, STR("sec-websocket-key")));
}

void websocket_make_key(char out[WEBSOCKET_KEY_LEN + 1])
{
    unsigned char bytes[KEY_BYTES];

    entropy_fill(bytes, sizeof(bytes));
    EVP_EncodeBlock((unsigned char *)out, bytes, sizeof(bytes));
}

void websocket_accept(struct str key, char out[WEBSOCKET_ACCEPT_LEN + 1])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char text[WEBSOCKET_KEY_LEN + sizeof(guid)];
    size_t n = key.n < WEBSOCKET_KEY_LEN ? key.n : WEBSOCKET_KEY_LEN;
    unsigned char digest[SHA_DIGEST_LENGTH];

    memcpy(text, key.p, n);
    memcpy(text + n, guid, sizeof(guid) - 1);
    SHA1((const unsigned char *)text, n + sizeof(guid) - 1, digest);
    EVP_EncodeBlock((unsigned char *)out, digest, sizeof(digest));
}

bool websocket_is_agreed(const struct head *response, const struct h1_message *m, struct str accept)
{
    return m->upgrade && head_count(response, STR("upgrade")) == 1 &&
           str_eq_nocase(head_value(response, STR("upgrade")), STR("websocket")) &&
           head_count(response, STR("sec-websocket-accept")) == 1 &&
           str_eq(head_value(response, STR("sec-websocket-accept")), accept) &&
           (!head_find(response, STR("content-length")) ||
               str_eq(head_value(response, STR("content-length")), STR("0"))) &&
           !head_find(response, STR("transfer-encoding"));
}
