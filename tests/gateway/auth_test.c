#include "gateway/auth.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/err.h"
#include "tests/lib/scratch.h"

enum { NOW_MS = 1700000000000, RELOADS = 200, CHECKERS = 3 };
static const char OLD[] = "0123456789abcdef0123456789abcdef",
                  NEW[] = "fedcba9876543210fedcba9876543210";

static char dir[SCRATCH_MAX], path[SCRATCH_MAX + 16], why[512];
static struct auth *auth;
static struct buf old_token, new_token;

static void write_secret(const char *text)
{
    char fresh[SCRATCH_MAX + 16];
    snprintf(fresh, sizeof fresh, "%s/fresh", dir);
    scratch_write(dir, "fresh", text);
    cr_assert(zero(int, chmod(fresh, 0600)));
    cr_assert(zero(int, rename(fresh, path)));
}

static void sign(const char *secret, struct buf *out)
{
    write_secret(secret);
    struct jwt_keys *keys = jwt_keys_load_secret(path, why, sizeof why);
    cr_assert(ne(ptr, keys, NULL), "%s", why);
    cr_assert(zero(int, jwt_sign(keys, "anna", "", NOW_MS, 600, out)));
    jwt_keys_free(keys);
}

static void setup(void)
{
    scratch_make(dir);
    snprintf(path, sizeof path, "%s/secret", dir);
    sign(NEW, &new_token);
    sign(OLD, &old_token); /* and that is the file now */
    auth = auth_new(path, NULL, why, sizeof why);
    cr_assert(ne(ptr, auth, NULL), "%s", why);
}

static void teardown(void)
{
    auth_free(auth);
    buf_close(&old_token);
    buf_close(&new_token);
    scratch_remove(dir);
}

TestSuite(auth, .init = setup, .fini = teardown);

static int check(const struct buf *token)
{
    struct jwt_claims claims;
    char reason[200];
    return auth_check(auth, buf_span(token), NOW_MS, &claims, reason, sizeof reason);
}

Test(auth, a_reload_changes_the_keys)
{
    cr_assert(zero(int, check(&old_token)));
    cr_assert(eq(int, check(&new_token), ERR_UNAUTHORIZED));
    write_secret(NEW);
    cr_assert(zero(int, auth_reload(auth, why, sizeof why)));
    cr_assert(eq(int, check(&old_token), ERR_UNAUTHORIZED));
    cr_assert(zero(int, check(&new_token)));
}

/* A file that can't be used leaves the keys that are in force, and says why. */
Test(auth, a_failed_reload_keeps_the_keys)
{
    why[0] = '\0';
    write_secret("short");
    cr_assert(ne(int, auth_reload(auth, why, sizeof why), 0));
    cr_assert(ne(str, why, (char *)""));
    cr_assert(zero(int, check(&old_token)));
    unlink(path);
    cr_assert(ne(int, auth_reload(auth, why, sizeof why), 0));
    cr_assert(zero(int, check(&old_token)));
    cr_assert(eq(ptr, auth_new(path, NULL, why, sizeof why), NULL));
}

static _Atomic bool done;
static _Atomic uint64_t checks;

static void *check_on(void *arg)
{
    uintptr_t wrong = 0;
    (void)arg;
    while (!atomic_load(&done)) {
        int old = check(&old_token), fresh = check(&new_token);
        wrong += (old != 0 && old != ERR_UNAUTHORIZED) || (fresh != 0 && fresh != ERR_UNAUTHORIZED);
        atomic_fetch_add(&checks, 1);
    }
    return (void *)wrong;
}

/* Others check meanwhile: every answer is that of one set of keys or the other, and no memory of a
 * set that has gone is looked at (the sanitizers'). */
Test(auth, reloads_while_others_check)
{
    pthread_t threads[CHECKERS];
    for (int i = 0; i < CHECKERS; i++)
        cr_assert(zero(int, pthread_create(&threads[i], NULL, check_on, NULL)));
    for (int i = 0; i < RELOADS; i++) {
        write_secret(i % 2 == 0 ? NEW : OLD);
        cr_assert(zero(int, auth_reload(auth, why, sizeof why)));
        cr_assert(zero(int, check(i % 2 == 0 ? &new_token : &old_token)));
    }
    atomic_store(&done, true);
    for (int i = 0; i < CHECKERS; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        cr_assert(eq(ptr, wrong, NULL));
    }
    cr_assert(lt(u64, 0, atomic_load(&checks)));
}
