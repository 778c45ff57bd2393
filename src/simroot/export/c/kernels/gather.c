/* Any order; -1 stands for zero. */
static void @NAME@(const @TYPE@ *x, int n, const int32_t *order, int zero, @TYPE@ *y)
{
    int i;
    for (i = 0; i < n; ++i) {
        y[i] = order[i] < 0 ? (@TYPE@)zero : x[order[i]];
    }
}
