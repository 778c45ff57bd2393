static void @NAME@(const @INPUT@ *x, int pixels, int channels, const float *scale, const float *shift, float low,
    float high, float *y)
{
    int pixel, c;
    for (pixel = 0; pixel < pixels; ++pixel) {
        for (c = 0; c < channels; ++c) {
            y[pixel * channels + c] = sr_clamp((float)x[pixel * channels + c] * scale[c] + shift[c], low, high);
        }
    }
}
