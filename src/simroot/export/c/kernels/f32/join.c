/* Channels of a grid into a wider grid, from the given channel on. */
static void sr_join(const float *x, int pixels, int channels, int all, float *y)
{
    int pixel;
    for (pixel = 0; pixel < pixels; ++pixel) {
        memcpy(y + pixel * all, x + pixel * channels, (size_t)channels * sizeof *x);
    }
}
