/* b repeats after every period numbers. */
static void sr_weigh(const int8_t *a, const int8_t *b, int n, int period, int32_t zero_a, int32_t zero_b, int32_t factor_a,
    int32_t factor_b, int shift, int32_t zero, int32_t low, int32_t high, int8_t *y)
{
    const int places = shift > 32 ? 31 : shift - 1; /* of 31 bits nothing is left, but a sign */
    int i, j;
    for (i = 0; i < n; i += period) {
        for (j = 0; j < period; ++j) {
            const int32_t sum = (a[i + j] - zero_a) * factor_a + (b[j] - zero_b) * factor_b;
            const int32_t found = (((sum >> places) + 1) >> 1) + zero;
            const int32_t least = found < low ? low : found;
            y[i + j] = (int8_t)(least > high ? high : least);
        }
    }
}
