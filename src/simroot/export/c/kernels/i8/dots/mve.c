static inline void sr_dot@WIDTH@_of_two(const int16_t *x, int length, const @WEIGHT@ *w, const @WEIGHT@ *v, int32_t *sums)
{
    const int16_t *y = x + length;
    int32_t a = 0, b = 0, c = 0, d = 0;
    int left;
    for (left = length; left >= 8; left -= 8, x += 8, y += 8, w += 8, v += 8) {
        const int16x8_t p = vldrhq_s16(x), q = vldrhq_s16(y), f = @MVE@_s16(w), g = @MVE@_s16(v);
        a = vmladavaq_s16(a, p, f);
        b = vmladavaq_s16(b, p, g);
        c = vmladavaq_s16(c, q, f);
        d = vmladavaq_s16(d, q, g);
    }
    if (left > 0) {
        const mve_pred16_t some = vctp16q((uint32_t)left);
        const int16x8_t p = vldrhq_z_s16(x, some), q = vldrhq_z_s16(y, some);
        const int16x8_t f = @MVE@_z_s16(w, some), g = @MVE@_z_s16(v, some);
        a = vmladavaq_s16(a, p, f);
        b = vmladavaq_s16(b, p, g);
        c = vmladavaq_s16(c, q, f);
        d = vmladavaq_s16(d, q, g);
    }
    sums[0] += a;
    sums[1] += b;
    sums[2] += c;
    sums[3] += d;
}
