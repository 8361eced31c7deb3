#include "store/base/secret.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <sys/stat.h>

#include "store/base/err.h"
#include "store/base/file.h"
#include "store/base/log.h"

enum { ROOM = 2 * SECRET_MAX }; /* so that it is never moved, and no copy is left behind */

int secret_load(const char *path, struct buf *out, char *why, size_t size)
{
    unsigned mode = 0;
    *out = (struct buf){0};
    buf_reserve(out, ROOM);
    int err = file_read(path, SECRET_MAX, out, &mode);
    if (err == ERR_TOO_LARGE)
        snprintf(why, size, "%s: more than %d bytes; is this the right file?", path, SECRET_MAX);
    else if (err != 0)
        snprintf(why, size, "cannot read %s: %s", path, strerror(errno));
    if (out->n > 0 && out->p[out->n - 1] == '\n')
        out->n--;
    if (err == 0 && out->n < SECRET_MIN) {
        snprintf(why, size,
                 "%s: a secret of %zu bytes is too short; make one of at least %d, e.g. with "
                 "`openssl rand -hex 32`",
                 path, out->n, SECRET_MIN);
        err = ERR_BAD_REQUEST;
    }
    if (err != 0) {
        secret_drop(out);
        return ERR_BAD_REQUEST;
    }
    if ((mode & (S_IROTH | S_IWOTH)) != 0)
        log_warn("every user of this machine may read or change the secret; chmod 600 it",
                 {"file", log_str(path)});
    return 0;
}

void secret_drop(struct buf *secret)
{
    if (secret->p != NULL)
        OPENSSL_cleanse(secret->p, secret->cap);
    buf_close(secret);
}
