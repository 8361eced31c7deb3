/* tests/lib/rivals.h: threads that want the processor of the one that calls. */
#ifndef LOQUAT_TESTS_RIVALS_H
#define LOQUAT_TESTS_RIVALS_H

/* `then` runs beside them, all on one processor, where its thread stays from then on. */
void beside_rivals(void (*then)(void));

#endif
