/* gateway/gate_gauges.h: what the metrics say of all loops together: each adds by how much its own
 * numbers changed, when it looks at its deadlines (GATE_SWEEP_MS), so that no message pays for it.
 * Thread: gate_gauges_take: the loop's. */
#ifndef LOQUAT_GATEWAY_GATE_GAUGES_H
#define LOQUAT_GATEWAY_GATE_GAUGES_H

#include "gateway/gate.h"

void gate_gauges_register(void); /* with the bounds of a gateway; once */
void gate_gauges_take(struct gate *gate);

#endif
