static void @NAME@(const @INPUT@ *x, int pixels, int channels, const int32_t *multipliers, const uint8_t *shifts,
    const int32_t *bias, int32_t zero, int32_t low, int32_t high, @OUTPUT@ *y)
{
    int pixel, c;
    for (pixel = 0; pixel < pixels; ++pixel) {
        for (c = 0; c < channels; ++c) {
            const int32_t value = x[pixel * channels + c] - zero;
            y[pixel * channels + c] = (@OUTPUT@)sr_rescale(value, multipliers[c], shifts[c], bias[c], low, high);
        }
    }
}
