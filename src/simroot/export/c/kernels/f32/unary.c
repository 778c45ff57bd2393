static void sr_@KIND@(const float *x, int n@PARAMETERS@, float *y)
{
    int i;
    for (i = 0; i < n; ++i) {
        const float value = x[i];
        y[i] = @RESULT@;
    }
}
