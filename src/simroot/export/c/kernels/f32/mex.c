/* MEX units over the channels of each pixel; e has room for one pixel. */
static void sr_mex(const float *x, int pixels, int channels, int units, float beta, const float *common,
    const float *mixing, const float *peaks, float *e, float *y)
{
    int pixel, c, r;
    for (pixel = 0; pixel < pixels; ++pixel) {
        float top = x[0] + common[0];
        for (c = 0; c < channels; ++c) {
            e[c] = x[c] + common[c];
            if (e[c] > top) {
                top = e[c];
            }
        }
        for (c = 0; c < channels; ++c) {
            e[c] = sr_exp(beta * (e[c] - top));
        }
        for (r = 0; r < units; ++r) {
            const float *w = mixing + r * channels;
            float sum = 0.0F;
            for (c = 0; c < channels; ++c) {
                sum += e[c] * w[c];
            }
            if (sum < 1.17549435e-38F) {
                sum = 1.17549435e-38F;
            }
            y[r] = sr_log(sum) / beta + (top + peaks[r]);
        }
        x += channels;
        y += units;
    }
}
