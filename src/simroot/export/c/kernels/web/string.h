/* What the network's C text needs of string.h; the compiler writes instructions of WebAssembly for it. */
#include <stddef.h>
void *memcpy(void *to, const void *from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
