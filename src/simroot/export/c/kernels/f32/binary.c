/* b repeats after every period numbers. */
static void sr_@KIND@(const float *a, const float *b, int n, int period, float low, float high, float *y)
{
    int i, j;
    for (i = 0; i < n; i += period) {
        for (j = 0; j < period; ++j) {
            y[i + j] = sr_clamp(a[i + j] @SIGN@ b[j], low, high);
        }
    }
}
