/* bench/lib/server.h: the servers that a bench measures: started on loopback with a directory of
 * their own, ended by their process id, and never left behind (they die with the bench).
 * Errors: none: see measure.h. */
#ifndef LOQUAT_BENCH_SERVER_H
#define LOQUAT_BENCH_SERVER_H

#include "bench/lib/measure.h"
#include "store/base/jwt.h"
#include "tests/lib/scratch.h"

const char *bench_program(const char *name, char *path, size_t size); /* under $BUILD */

/* A directory of this bench, removed when it ends. */
void bench_dir(char path[SCRATCH_MAX]);
void bench_dir_drop(const char *path); /* removed now */

pid_t proc_fork(void); /* 0: in the child, which ends with its parent */
/* The last argument is NULL. Standard output and error go to `log`; NULL: to our standard error. */
pid_t proc_start(char *const *argv, const char *log);
/* The same, with its standard output to be read, and closed by the caller. */
pid_t proc_start_piped(char *const *argv, int *out);
void proc_stop(pid_t pid);        /* SIGTERM, and waits; a status other than 0 fails the bench */
double proc_wait(pid_t pid);      /* the same without the signal; seconds of processor it took */
bool proc_rest(pid_t pid);        /* until it has nothing to do; false: not within a minute */
uint64_t proc_memory(pid_t pid);  /* bytes of private memory: anonymous pages it wrote */
uint64_t proc_peak(pid_t pid);    /* the most it ever had resident, bytes (VmHWM) */
void proc_peak_forget(pid_t pid); /* that is counted from what it has now on */

/* loquat-node, for gateways beside it. */
struct node_server {
    pid_t pid;
    char root[SCRATCH_MAX], secret[SCRATCH_MAX + 16], at[256]; /* at: where gateways connect */
    char cluster[256]; /* as the option; of the first of several */
};
void node_begin(struct node_server *node); /* prepared and started */
void node_again(struct node_server *node); /* SIGKILL, and started at the same place */
void node_drop(struct node_server *node);
/* A cluster of so many: the first one's `at` names them all, and its secret is everybody's. */
void nodes_begin(struct node_server *nodes, size_t count, const char *partitions);
void nodes_kill(struct node_server *nodes, size_t which);
void nodes_again(struct node_server *nodes, size_t which, const char *partitions); /* until ready */
/* `loquat-node cluster` VERB WHAT, said to those of the first one's `cluster`; its pid. */
pid_t nodes_tell(const struct node_server *nodes, const char *verb, const char *what);
/* One more, with an empty directory, number `which` + 1; which the cluster has to be told, too. Its
 * ID=HOST:PORT is left in `name`. Not waited for: `cluster add` ends when it holds its share. */
void nodes_join(struct node_server *nodes, size_t which, const char *partitions, char *name,
                size_t size);
void nodes_wipe(const struct node_server *nodes, size_t which); /* its directory; it has ended */
void nodes_drop(struct node_server *nodes, size_t count);

struct gateway {
    pid_t pid;
    const struct node_server *node; /* beside which it runs; NULL: it is inside */
    char root[SCRATCH_MAX], dir[SCRATCH_MAX + 16], secret[SCRATCH_MAX + 16];
    char url[64];
    int port;
    struct jwt_keys *keys;
    bool tls; /* set before gateway_start: it speaks TLS, and so do the clients of sock.h */
};
/* `more`: further options, ended by NULL; may be NULL. */
void gateway_prepare(struct gateway *gateway); /* the directories and the secret */
/* One more beside a node, with the tokens of the first, which outlives it. */
void gateway_join(struct gateway *gateway, const struct gateway *first);
void gateway_start(struct gateway *gateway, const char *const *more);
extern const char *const TWO_LOOPS[];       /* such options: whatever the machine has */
void gateway_stop(struct gateway *gateway); /* the data stays; gateway_start may follow */
void gateway_kill(struct gateway *gateway); /* SIGKILL; gateway_start may follow */
void gateway_rest(
    const struct gateway *gateway);         /* until it has nothing to do: compactions ended */
void gateway_drop(struct gateway *gateway); /* … until here */
void gateway_token(const struct gateway *gateway, const char *user, const char *scope,
                   struct buf *token); /* ended by NUL */

void files_allow(void); /* as many descriptors as the system lets this process have */
int port_free(void);    /* one that nobody listens on at the moment */
void port_wait(int port, pid_t pid);
uint64_t dir_bytes(const char *path); /* of the files in it */

#endif
