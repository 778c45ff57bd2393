/* Sums over two windows x and two templates, w and v; f and h are their weights. */
static inline void sr_@KIND@_of_two(const int16_t *x, int length, const int16_t *w, const int16_t *v, const int16_t *f,
    const int16_t *h@PARAMETERS@, int32_t *sums)
{
    const int16_t *y = x + length;
    int32_t a = 0, b = 0, c = 0, d = 0;
    int k;
    for (k = 0; k < length; ++k) {
        a += f[k] * sr_@KIND@(x[k] - w[k]@PASSED@);
        b += h[k] * sr_@KIND@(x[k] - v[k]@PASSED@);
        c += f[k] * sr_@KIND@(y[k] - w[k]@PASSED@);
        d += h[k] * sr_@KIND@(y[k] - v[k]@PASSED@);
    }
    sums[0] += a;
    sums[1] += b;
    sums[2] += c;
    sums[3] += d;
}
