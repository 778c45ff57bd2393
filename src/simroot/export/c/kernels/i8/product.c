/* b repeats after every period numbers. */
static void sr_multiply(const int8_t *a, const int8_t *b, int n, int period, int32_t zero_a, int32_t zero_b,
    int32_t multiplier, int shift, int32_t zero, int32_t low, int32_t high, int8_t *y)
{
    int i, j;
    for (i = 0; i < n; i += period) {
        for (j = 0; j < period; ++j) {
            const int32_t product = (a[i + j] - zero_a) * (b[j] - zero_b);
            y[i + j] = (int8_t)sr_rescale(product, multiplier, shift, zero, low, high);
        }
    }
}
