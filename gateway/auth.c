#include "gateway/auth.h"

#include <pthread.h>
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/err.h"

struct auth {
    pthread_rwlock_t lock;
    struct jwt_keys *keys;
    char *secret_file, *jwks_file; /* one is NULL */
};

static struct jwt_keys *load(const struct auth *auth, char *why, size_t size)
{
    return auth->secret_file != NULL ? jwt_keys_load_secret(auth->secret_file, why, size)
                                     : jwt_keys_load_jwks(auth->jwks_file, why, size);
}

/* Busy loops hold it for reading nearly always; a reload must have its turn all the same. */
static void init_lock(pthread_rwlock_t *lock)
{
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(lock, &attr);
    pthread_rwlockattr_destroy(&attr);
}

struct auth *auth_new(const char *secret_file, const char *jwks_file, char *why, size_t size)
{
    struct auth *auth = xcalloc(1, sizeof *auth);
    ASSERT((secret_file != NULL) != (jwks_file != NULL));
    init_lock(&auth->lock);
    auth->secret_file = secret_file != NULL ? xstrdup(secret_file) : NULL;
    auth->jwks_file = jwks_file != NULL ? xstrdup(jwks_file) : NULL;
    auth->keys = load(auth, why, size);
    if (auth->keys == NULL) {
        auth_free(auth);
        return NULL;
    }
    return auth;
}

void auth_free(struct auth *auth)
{
    if (auth == NULL)
        return;
    if (auth->keys != NULL)
        jwt_keys_free(auth->keys);
    pthread_rwlock_destroy(&auth->lock);
    free(auth->secret_file);
    free(auth->jwks_file);
    free(auth);
}

int auth_reload(struct auth *auth, char *why, size_t size)
{
    struct jwt_keys *fresh = load(auth, why, size), *old;
    if (fresh == NULL)
        return ERR_UNAVAILABLE;
    pthread_rwlock_wrlock(&auth->lock);
    old = auth->keys;
    auth->keys = fresh;
    pthread_rwlock_unlock(&auth->lock);
    jwt_keys_free(old);
    return 0;
}

int auth_check(struct auth *auth, struct span token, uint64_t now_ms, struct jwt_claims *claims,
               char *why, size_t size)
{
    pthread_rwlock_rdlock(&auth->lock);
    int err = jwt_verify(auth->keys, token, now_ms, claims, why, size);
    pthread_rwlock_unlock(&auth->lock);
    return err;
}
