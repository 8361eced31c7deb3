#include "store/base/err.h"

#include <stdarg.h>
#include <stdio.h>

#include <stddef.h>

static const struct row {
    int err;
    const char *name, *wire;
    int http;
    bool retry;
} rows[] = {
#define X(name, number, wire, http, retry) {name, #name, wire, http, retry},
    ERR_TABLE(X)
#undef X
};

static const struct row *find(int err)
{
    const struct row *internal = &rows[0];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].err == err)
            return &rows[i];
        if (rows[i].err == ERR_INTERNAL)
            internal = &rows[i];
    }
    return internal;
}

const char *err_name(int err)
{
    return err == 0 ? "OK" : find(err)->name;
}

const char *err_wire(int err)
{
    return find(err)->wire;
}

int err_http(int err)
{
    return err == 0 ? 200 : find(err)->http;
}

bool err_retry(int err)
{
    return err != 0 && find(err)->retry;
}

bool err_refuse(char *why, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, size, format, args);
    va_end(args);
    return false;
}
