static inline int16x8_t sr_eight@WIDTH@(const @WEIGHT@ *w)
{
    return @NEON8@;
}

static inline int16x4_t sr_four@WIDTH@(const @WEIGHT@ *w)
{
    uint64_t bits = 0;
    memcpy(&bits, w, 4 * sizeof *w);
    return @NEON4@;
}

static inline void sr_dot@WIDTH@_of_two(const int16_t *x, int length, const @WEIGHT@ *w, const @WEIGHT@ *v, int32_t *sums)
{
    const int16_t *y = x + length;
    int32x4_t a = vdupq_n_s32(0), b = a, c = a, d = a;
    int k;
    for (k = 0; k + 8 <= length; k += 8) {
        const int16x8_t p = vld1q_s16(x + k), q = vld1q_s16(y + k), f = sr_eight@WIDTH@(w + k), g = sr_eight@WIDTH@(v + k);
        a = vmlal_high_s16(vmlal_s16(a, vget_low_s16(p), vget_low_s16(f)), p, f);
        b = vmlal_high_s16(vmlal_s16(b, vget_low_s16(p), vget_low_s16(g)), p, g);
        c = vmlal_high_s16(vmlal_s16(c, vget_low_s16(q), vget_low_s16(f)), q, f);
        d = vmlal_high_s16(vmlal_s16(d, vget_low_s16(q), vget_low_s16(g)), q, g);
    }
    if (k < length) {
        const int16x4_t p = vld1_s16(x + k), q = vld1_s16(y + k), f = sr_four@WIDTH@(w + k), g = sr_four@WIDTH@(v + k);
        a = vmlal_s16(a, p, f);
        b = vmlal_s16(b, p, g);
        c = vmlal_s16(c, q, f);
        d = vmlal_s16(d, q, g);
    }
    vst1q_s32(sums, vaddq_s32(vld1q_s32(sums), vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d))));
}
