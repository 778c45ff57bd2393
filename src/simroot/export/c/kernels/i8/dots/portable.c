SR_APART static void sr_dot@WIDTH@(const int16_t *x, int length, const @WEIGHT@ *w, const @WEIGHT@ *v, int32_t *sums)
{
    const int16_t *y = x + length;
    const @WEIGHT@ *const end = w + length;
    uint32_t a = 0, b = 0, c = 0, d = 0;
    for (; w != end; w += 4, v += 4, x += 4, y += 4) {
        a += (uint32_t)(x[0] * w[0]) + (uint32_t)(x[1] * w[1]) + (uint32_t)(x[2] * w[2]) + (uint32_t)(x[3] * w[3]);
        b += (uint32_t)(x[0] * v[0]) + (uint32_t)(x[1] * v[1]) + (uint32_t)(x[2] * v[2]) + (uint32_t)(x[3] * v[3]);
        c += (uint32_t)(y[0] * w[0]) + (uint32_t)(y[1] * w[1]) + (uint32_t)(y[2] * w[2]) + (uint32_t)(y[3] * w[3]);
        d += (uint32_t)(y[0] * v[0]) + (uint32_t)(y[1] * v[1]) + (uint32_t)(y[2] * v[2]) + (uint32_t)(y[3] * v[3]);
    }
    sums[0] = (int32_t)a;
    sums[1] = (int32_t)b;
    sums[2] = (int32_t)c;
    sums[3] = (int32_t)d;
}
