/* gateway/hooks.h: webhooks: consumers that have a URL, whose records gateways send themselves. All
 * gateways of a store share the partitions of each, as its workers do (docs/PROTOCOL.md); what one
 * has not finished, another goes on with. Of a partition one request is under way at a time, again
 * and again until it is taken, so nothing is lost or comes out of order; it may come twice.
 * Thread: a thread and a loop of its own: what is slow out there holds up no client.
 *         hooks_start, hooks_stop: the main thread. */
#ifndef LOQUAT_GATEWAY_HOOKS_H
#define LOQUAT_GATEWAY_HOOKS_H

struct settings;
struct hooks;

struct hooks *hooks_start(const struct settings *settings);
void hooks_stop(struct hooks *hooks); /* ended and freed */
void hooks_metrics(void);             /* registers; once */

#endif
