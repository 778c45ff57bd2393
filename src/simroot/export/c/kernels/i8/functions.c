/* value * multiplier / 2^shift, rounded half up, plus zero, within limits. */
static int32_t sr_rescale(int32_t value, int32_t multiplier, int shift, int32_t zero, int32_t low, int32_t high)
{
    const int64_t product = (int64_t)value * multiplier;
#if UINTPTR_MAX > 0xFFFFFFFFu || defined(__wasm__)
    const int64_t wide = ((product + ((int64_t)1 << (shift - 1))) >> shift) + zero;
    const int64_t least = wide < low ? low : wide;
    return (int32_t)(least > high ? high : least);
#else
    int32_t found;
    if (shift > 32) { /* the lower half does not matter */
        found = (((int32_t)(product >> 32) + (1 << (shift - 33))) >> (shift - 32)) + zero;
    } else {
        const int64_t wide = ((product + ((int64_t)1 << (shift - 1))) >> shift) + zero;
        found = wide < low ? low : wide > high ? high : (int32_t)wide;
    }
    return found < low ? low : found > high ? high : found;
#endif
}

/* value * multiplier / 2^shift, rounded half up, of a shift above 32: the lower half of the product does not matter. */
static int32_t sr_moved(int32_t value, int32_t multiplier, int shift)
{
    const int32_t upper = (int32_t)((int64_t)value * multiplier >> 32);
    return ((upper >> (shift - 33)) + 1) >> 1;
}

/* Which taps of a filter of n lie inside of a grid of the given size: from *first to before *last. */
static void sr_inside(int start, int apart, int n, int size, int *first, int *last)
{
    int low = start < 0 ? (-start + apart - 1) / apart : 0;
    int high = start >= size ? 0 : (size - 1 - start) / apart + 1;
    *first = low < n ? low : n;
    *last = high < n ? (high > *first ? high : *first) : n;
}

/* 2^20 * 2^(-t / 4096): a table of 256 steps, straight lines between. */
SR_MAYBE static uint32_t sr_exp2(uint32_t t)
{
    const uint32_t whole = t >> 12, index = t >> 4 & 255u, part = t & 15u;
    uint32_t value;
    if (whole > 20u) {
        return 0;
    }
    value = sr_exp2_table[index] - ((sr_exp2_table[index] - sr_exp2_table[index + 1u]) * part >> 4);
    return value >> whole;
}

/* 4096 * log2(value), rounded down, for a value above 0: twelve squarings. */
static int32_t sr_log2(uint32_t value)
{
    int32_t found = 31, bit;
#if defined(__ARM_FEATURE_CLZ) || defined(__aarch64__) || defined(__x86_64__) || defined(__wasm__)
    const int zeros = __builtin_clz(value);
    value <<= zeros;
    found -= zeros;
#else
    while ((value & 0x80000000u) == 0) {
        value <<= 1;
        --found;
    }
#endif
    for (bit = 0; bit < 12; ++bit) {
        const uint64_t square = (uint64_t)value * value;
        const uint32_t over = (uint32_t)(square >> 63);
        value = (uint32_t)(over ? square >> 32 : square >> 31);
        found = 2 * found + (int32_t)over;
    }
    return found;
}

/* The mean of whole numbers of 16 bits, rounded half up; the offset keeps what is divided positive. */
static int32_t sr_mean(int32_t sum, int count)
{
    const uint32_t n = (uint32_t)count, positive = (uint32_t)(sum + 32768 * count);
    return (int32_t)((2u * positive + n) / (2u * n)) - 32768;
}
