/* MEX units over the channels of each pixel; e has room for one pixel. */
static void sr_mex(const float *x, int pixels, int channels, int units, float beta, const float *common,
    const float *mixing, const float *peaks, float *e, float *y)
{
    int pixel, c, r, j, count;
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
        for (r = 0; r < units; r += count) {
            const float *w = mixing + r * channels;
            float sum[4] = {0.0F};
            count = units - r < 4 ? 1 : 4;
            if (count == 4) { /* sums that do not wait for each other */
                float a = 0.0F, b = 0.0F, d = 0.0F, f = 0.0F;
                for (c = 0; c < channels; ++c) {
                    a += e[c] * w[c];
                    b += e[c] * w[channels + c];
                    d += e[c] * w[2 * channels + c];
                    f += e[c] * w[3 * channels + c];
                }
                sum[0] = a, sum[1] = b, sum[2] = d, sum[3] = f;
            } else {
                for (c = 0; c < channels; ++c) {
                    sum[0] += e[c] * w[c];
                }
            }
            for (j = 0; j < count; ++j) {
                y[r + j] = sum[j] < 1.17549435e-38F ? 1.17549435e-38F : sum[j];
            }
        }
        for (r = 0; r < units; ++r) {
            y[r] = sr_log(y[r]) / beta + (top + peaks[r]);
        }
        x += channels;
        y += units;
    }
}
