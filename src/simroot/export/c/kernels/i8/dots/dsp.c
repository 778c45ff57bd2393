static inline void sr_dot@WIDTH@_of_two(const int16_t *x, int length, const @WEIGHT@ *w, const @WEIGHT@ *v, int32_t *sums)
{
    const @WEIGHT@ *const end = w + length;
    int32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3];
    for (; w != end; w += 4, v += 4, x += 8) {
        const uint32_t x0 = sr_word(x), x1 = sr_word(x + 2), y0 = sr_word(x + 4), y1 = sr_word(x + 6);
        const uint32_t w0 = sr_first@WIDTH@(w), w1 = sr_second@WIDTH@(w), v0 = sr_first@WIDTH@(v), v1 = sr_second@WIDTH@(v);
        a = sr_two(x1, w1, sr_two(x0, w0, a));
        b = sr_two(x1, v1, sr_two(x0, v0, b));
        c = sr_two(y1, w1, sr_two(y0, w0, c));
        d = sr_two(y1, v1, sr_two(y0, v0, d));
    }
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
    sums[3] = d;
}
