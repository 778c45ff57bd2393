static void sr_look_up(const int8_t *x, int n, const int8_t *values, int8_t *y)
{
    int i;
    for (i = 0; i < n; ++i) {
        y[i] = values[x[i] + 128];
    }
}
