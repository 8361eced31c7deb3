#include <openssl/evp.h>
#include <openssl/sha.h>

#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/ws.h"

static bool base64_digit(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
           c == '/';
}

bool ws_accept(struct span key, char accept[WS_ACCEPT_SIZE + 1])
{
    static const char GUID[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char text[WS_KEY_SIZE + sizeof GUID - 1], hash[SHA_DIGEST_LENGTH];
    if (key.n != WS_KEY_SIZE || memcmp(key.p + 22, "==", 2) != 0) /* 16 bytes */
        return false;
    for (size_t i = 0; i < 22; i++)
        if (!base64_digit(key.p[i]))
            return false;
    memcpy(text, key.p, WS_KEY_SIZE);
    memcpy(text + WS_KEY_SIZE, GUID, sizeof GUID - 1);
    if (SHA1(text, sizeof text, hash) == NULL)
        check_no_memory(0);
    int n = EVP_EncodeBlock((unsigned char *)accept, hash, sizeof hash);
    ASSERT(n == WS_ACCEPT_SIZE);
    return true;
}

void ws_key(char key[WS_KEY_SIZE + 1])
{
    unsigned char bytes[16];
    random_bytes(bytes, sizeof bytes);
    int n = EVP_EncodeBlock((unsigned char *)key, bytes, sizeof bytes);
    ASSERT(n == WS_KEY_SIZE);
}
