/* replication/admin.h: /healthz, /readyz and /metrics of a node, for operators, on a thread of its
 * own: a node that is busy starting or draining answers all the same. No token; GET alone; each
 * connection serves one request.
 * Thread: admin_start, admin_ready and admin_stop from any one thread.
 * Limits: ADMIN_CONNS_MAX connections (above: closed at once), ADMIN_MS_MAX for each. */
#ifndef LOQUAT_REPLICATION_ADMIN_H
#define LOQUAT_REPLICATION_ADMIN_H

#include <stdbool.h>

enum { ADMIN_CONNS_MAX = 32, ADMIN_MS_MAX = 5000 };

struct admin;
struct admin *admin_start(int fd); /* listens; becomes the thread's */
void admin_ready(struct admin *admin, bool ready);
void admin_stop(struct admin *admin); /* NULL is fine */

#endif
