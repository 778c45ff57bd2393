@include i8/wide_mex.c
/* MEX units over the channels of each pixel, in units of 1 / 256 of a factor of two. */
static void sr_mex(const int16_t *x, int pixels, int channels, int units, const int16_t *offsets, int32_t count, int32_t moved,
    int16_t *y)
{
    int pixel, c, r;
#ifdef SR_WIDE
    if (units <= SR_WIDE_SUMS && units * (channels + SR_WIDE_LANES) <= SR_WIDE_TERMS) {
        sr_mex_wide(x, pixels, channels, units, offsets, count, moved, y);
        return;
    }
#endif
    for (pixel = 0; pixel < pixels; ++pixel) {
        for (r = 0; r < units; ++r) {
            const int16_t *o = offsets + r * channels;
            int32_t top = x[0] + o[0], found;
            uint32_t sum = 0;
            for (c = 1; c < channels; ++c) {
                if (x[c] + o[c] > top) {
                    top = x[c] + o[c];
                }
            }
            for (c = 0; c < channels; ++c) {
                sum += sr_exp2((uint32_t)(top - x[c] - o[c]) << 4);
            }
            found = top + moved + ((sr_log2(sum) - count + 8) >> 4);
            y[r] = (int16_t)(found < -32768 ? -32768 : found > 32767 ? 32767 : found);
        }
        x += channels;
        y += units;
    }
}
