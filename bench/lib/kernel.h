/* bench/lib/kernel.h: what the kernel keeps for everybody on this machine: differences count. */
#ifndef LOQUAT_BENCH_KERNEL_H
#define LOQUAT_BENCH_KERNEL_H

struct kernel {
    double slab, sockets; /* bytes: of slabs, and of what waits in TCP sockets */
};
struct kernel kernel_now(void);

#endif
