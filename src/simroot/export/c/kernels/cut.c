/* A part of a grid, which may begin outside of it, where zero stands. */
static void @NAME@(const @TYPE@ *x, int height, int width, int channels, int out_height, int out_width, int out_channels,
    int first_y, int first_x, int first_channel, int step_y, int step_x, int zero, @TYPE@ *y)
{
    int i, j, c;
    for (i = 0; i < out_height; ++i) {
        const int row = first_y + i * step_y;
        for (j = 0; j < out_width; ++j) {
            const int column = first_x + j * step_x;
            const int inside = row >= 0 && row < height && column >= 0 && column < width;
            for (c = 0; c < out_channels; ++c) {
                const int channel = first_channel + c;
                *y++ = inside && channel >= 0 && channel < channels ? x[(row * width + column) * channels + channel] : (@TYPE@)zero;
            }
        }
    }
}
