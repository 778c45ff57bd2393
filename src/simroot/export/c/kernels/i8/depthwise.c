@include i8/wide_depthwise.c
/* Rows [top, bottom) of a convolution of each channel by a filter of its own. */
SR_MAYBE static void @NAME@(const sr_grid *g, const int8_t *x, const int8_t *w, const int32_t *factor, const uint8_t *shift,
    const int32_t *bias, int top, int bottom, @OUTPUT@ *y)
{
    const int channels = g->channels, row_step = g->apart_y * g->width * channels, tap_step = g->apart_x * channels;
    int row, column, c, j, u, v;
    for (row = top; row < bottom; ++row) {
        const int start_y = row * g->step_y - g->pad_y;
        int first_y, last_y;
        sr_inside(start_y, g->apart_y, g->kernel_y, g->height, &first_y, &last_y);
        for (column = 0; column < g->out_width; ++column) {
            const int start_x = column * g->step_x - g->pad_x;
            int first_x, last_x;
            const int8_t *corner;
            sr_inside(start_x, g->apart_x, g->kernel_x, g->width, &first_x, &last_x);
            corner = x + ((start_y + first_y * g->apart_y) * g->width + start_x + first_x * g->apart_x) * channels;
            for (c = 0; c < channels; c += 8) {
                const int count = channels - c < 8 ? channels - c : 8;
                const int8_t *from = corner + c, *tap = w + (first_y * g->kernel_x + first_x) * channels + c;
                int32_t a[8] = {0};
                if (count == 8) {
                    sr_planes(from, row_step, tap_step, last_y - first_y, last_x - first_x, tap, g->kernel_x * channels, channels, g->zero, a);
                } else {
                    for (u = 0; u < last_y - first_y; ++u) {
                        for (v = 0; v < last_x - first_x; ++v) {
                            for (j = 0; j < count; ++j) {
                                a[j] += (from[u * row_step + v * tap_step + j] - g->zero) * tap[(u * g->kernel_x + v) * channels + j];
                            }
                        }
                    }
                }
                for (j = 0; j < count; ++j) {
                    const int k = c + j;
                    y[k] = (@OUTPUT@)sr_rescale(a[j] + bias[k], factor[k], shift[k], g->out_zero, g->low, g->high);
                }
            }
            y += channels;
        }
    }
}
