/* bench/lib/measure.h: samples, the processor's time, and the line a bench ends with.
 * Errors: none: a bench that can't measure says why and ends with 1 (bench_fail). */
#ifndef LOQUAT_BENCH_MEASURE_H
#define LOQUAT_BENCH_MEASURE_H

#include <stdbool.h>
#include <sys/types.h>

#include "store/base/buf.h"
#include "store/base/check.h"

NORETURN void bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void bench_say(const char *format, ...) __attribute__((format(printf, 1, 2))); /* stderr */
/* How far it is, from 0 to 1: a bar on a terminal, else a line a minute. */
void bench_progress(const char *name, double part);

enum { GATEWAYS_MAX = 16, NODES_MAX = 5 };
struct bench_options {
    double secs;     /* of measuring, in all; setting up comes on top */
    bool peers;      /* beside other servers, too */
    size_t conns;    /* connections, where a bench has many; 0: its own number */
    size_t gateways; /* that they are spread over, beside one node; 0: one, with the node inside */
    size_t nodes;    /* beside which they run, where a bench has them so; 0: its own number */
    bool tls;        /* the clients come by TLS, where a bench can do that (see net_tls) */
    uint64_t messages; /* stored before anything is measured, where a bench has many; as conns */
};
/* NAME [--secs N] [--peers] [--conns N] [--gateways N] [--nodes N] [--tls] [--messages N] */
struct bench_options bench_options(int argc, char **argv, double secs);

struct series {
    double *v;
    size_t n, cap;
};
void series_add(struct series *series, double value);
double series_at(struct series *series, double q); /* quantile; 0 when empty. Sorts */
double series_median(struct series *series);
void series_close(struct series *series);

double now_s(void);
double cpu_self_s(void);
double cpu_of_s(pid_t pid); /* in steps of 10 ms */

/* Seconds since the last call, and the share of one core that the client (this process) and the
 * server used of them. */
struct share {
    double at, client, server;
    pid_t pid; /* of the server; 0: none */
};
void share_begin(struct share *share, pid_t pid);
double share_end(struct share *share); /* seconds; shares are set */

struct result {
    const char *bench, *unit, *ref_name;
    double value, ref, ratio; /* ratio 0: value / ref */
    double must;       /* what ratio has to be: at least, or with `lower` at most; 0: no promise */
    double value_must; /* what value itself may be at most; 0: no promise */
    bool lower;        /* less is better */
    struct buf more;   /* further members: ,"name":value */
};
/* What was measured in turn: the machine's mood changes from round to round, so ratios are taken
 * within a round, and the median of them counts. */
struct rounds {
    struct series ours, theirs, ratios;
};
void rounds_add(struct rounds *rounds, double ours, double theirs);
void rounds_end(struct rounds *rounds, struct result *result); /* fills it, and frees */

void result_add(struct result *result, const char *name, double value);
void result_add_text(struct result *result, const char *name, const char *text);
void result_print(struct result *result); /* and frees `more` */
/* Two cases of one figure: both, and last, under the figure's name, the one that is farther from
 * what it must be. */
void results_print_worst(const char *bench, struct result *a, struct result *b);

#endif
