/* Any order; -1 is a zero. */
static void sr_gather(const float *x, int n, const int32_t *order, float *y)
{
    int i;
    for (i = 0; i < n; ++i) {
        y[i] = order[i] < 0 ? 0.0F : x[order[i]];
    }
}
