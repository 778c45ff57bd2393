/* What the network's C text needs of math.h; the compiler writes instructions of WebAssembly for it. */
float fabsf(float value);
float sqrtf(float value);
