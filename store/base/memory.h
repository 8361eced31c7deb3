/* store/base/memory.h: one answer of a whole program to having no memory (check.h).
 * Thread: before there are others, and before libuv and OpenSSL are used. For programs, not for a
 *         library inside somebody else's. */
#ifndef LOQUAT_BASE_MEMORY_H
#define LOQUAT_BASE_MEMORY_H

/* From here on libuv, OpenSSL, cjose and jansson end the process as xmalloc does. They can't be
 * asked to go on: libuv aborts without a word where it watches descriptors, OpenSSL 3 reads through
 * NULL when its library context could not be made, and so does cjose in places. The other libraries
 * say so, and are asked. */
void memory_must(void);

#endif
