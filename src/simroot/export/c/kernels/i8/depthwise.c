@include i8/wide_depthwise.c
/* Rows [top, bottom) of a convolution of each channel by a filter of its own. room: sums, then taps. */
SR_MAYBE static void @NAME@(const sr_grid *g, const int8_t *x, const int8_t *w, const int32_t *factor, const uint8_t *shift,
    const int32_t *bias, int top, int bottom, int32_t *room, @OUTPUT@ *y)
{
    const int channels = g->channels, below = g->apart_y * g->width, last = g->width - (g->kernel_x - 1) * g->apart_x;
    sr_tap *const taps = (sr_tap *)(room + channels), *end = taps;
    int row, column;
    for (row = top; row < bottom; ++row) {
        const int start_y = row * g->step_y - g->pad_y;
        int first_y, last_y, first_x = 0, last_x, u, v, whole = 0;
        sr_inside(start_y, g->apart_y, g->kernel_y, g->height, &first_y, &last_y);
        for (column = 0; column < g->out_width; ++column, y += channels) {
            const int start_x = column * g->step_x - g->pad_x, inside = start_x >= 0 && start_x < last;
            if (!inside || !whole) {
                whole = inside;
                sr_inside(start_x, g->apart_x, g->kernel_x, g->width, &first_x, &last_x);
                for (end = taps, u = first_y; u < last_y; ++u) {
                    for (v = first_x; v < last_x; ++v, ++end) {
                        end->x = ((u - first_y) * below + (v - first_x) * g->apart_x) * channels;
                        end->w = (u * g->kernel_x + v) * channels;
                    }
                }
            }
            sr_planes(x + ((start_y + first_y * g->apart_y) * g->width + start_x + first_x * g->apart_x) * channels, w, taps, end,
                channels, g->zero, bias, room);
            sr_finish_@ENDING@(room, channels, factor, shift, g->out_zero, g->low, g->high, y);
        }
    }
}
