#ifdef __arm__ /* registers are few, and pointers step with each load */
#define SR_STEPS 1
#else
#define SR_STEPS 4
#endif

static inline uint32_t sr_times@WIDTH@(const int16_t *x, const @WEIGHT@ *w)
{
#if SR_STEPS == 1
    return (uint32_t)(x[0] * w[0]);
#else
    return (uint32_t)(x[0] * w[0]) + (uint32_t)(x[1] * w[1]) + (uint32_t)(x[2] * w[2]) + (uint32_t)(x[3] * w[3]);
#endif
}

static inline void sr_dot@WIDTH@_of_two(const int16_t *x, int length, const @WEIGHT@ *w, const @WEIGHT@ *v, int32_t *sums)
{
    const int16_t *y = x + length;
    const @WEIGHT@ *const end = w + length;
    uint32_t a = (uint32_t)sums[0], b = (uint32_t)sums[1], c = (uint32_t)sums[2], d = (uint32_t)sums[3];
    for (; w != end; w += SR_STEPS, v += SR_STEPS, x += SR_STEPS, y += SR_STEPS) {
        a += sr_times@WIDTH@(x, w);
        b += sr_times@WIDTH@(x, v);
        c += sr_times@WIDTH@(y, w);
        d += sr_times@WIDTH@(y, v);
    }
    sums[0] = (int32_t)a;
    sums[1] = (int32_t)b;
    sums[2] = (int32_t)c;
    sums[3] = (int32_t)d;
}
