#include "store/base/memory.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <uv.h>

#include "store/base/check.h"
#include "store/base/jwt.h"

static void *crypto_malloc(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return xmalloc(size);
}

static void *crypto_realloc(void *ptr, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return xrealloc(ptr, size);
}

static void crypto_free(void *ptr, const char *file, int line)
{
    (void)file;
    (void)line;
    free(ptr);
}

void memory_must(void)
{
    int fine = CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free);
    ASSERT(fine); /* nothing of OpenSSL was called before */
    int rv = uv_replace_allocator(xmalloc, xrealloc, xcalloc, free);
    ASSERT(rv == 0);
    jwt_memory_must();
}
