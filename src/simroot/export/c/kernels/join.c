/* Channels of a grid into a wider grid, from the given channel on. */
static void @NAME@(const @TYPE@ *x, int pixels, int channels, int all, @TYPE@ *y)
{
    int pixel;
    for (pixel = 0; pixel < pixels; ++pixel) {
        memcpy(y + pixel * all, x + pixel * channels, (size_t)channels * sizeof *x);
    }
}
