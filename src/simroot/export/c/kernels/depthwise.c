/* Rows [top, bottom) of a convolution of each channel by a filter of its own. */
static void @NAME@(const sr_grid *g, const @INPUT@ *x, const @WEIGHT@ *w@MORE@, const @SUM@ *bias, int top,
    int bottom, @OUTPUT@ *y)
{
    const int channels = g->channels;
    int row, column, c, j, u, v;
    for (row = top; row < bottom; ++row) {
        const int start_y = row * g->step_y - g->pad_y;
        int first_y, last_y;
        sr_inside(start_y, g->apart_y, g->kernel_y, g->height, &first_y, &last_y);
        for (column = 0; column < g->out_width; ++column) {
            const int start_x = column * g->step_x - g->pad_x;
            int first_x, last_x;
            sr_inside(start_x, g->apart_x, g->kernel_x, g->width, &first_x, &last_x);
            for (c = 0; c < channels; c += 8) {
                const int count = channels - c < 8 ? channels - c : 8;
                @SUM@ a[8] = {0};
                for (u = first_y; u < last_y; ++u) {
                    for (v = first_x; v < last_x; ++v) {
                        const @INPUT@ *from = x + ((start_y + u * g->apart_y) * g->width + start_x + v * g->apart_x) * channels + c;
                        const @WEIGHT@ *tap = w + (u * g->kernel_x + v) * channels + c;
                        if (count == 8) {
                            for (j = 0; j < 8; ++j) {
                                a[j] += @VALUE@ * tap[j];
                            }
                        } else {
                            for (j = 0; j < count; ++j) {
                                a[j] += @VALUE@ * tap[j];
                            }
                        }
                    }
                }
                for (j = 0; j < count; ++j) {
                    const int u = c + j;
                    y[u] = @STORE@;
                }
            }
            y += channels;
        }
    }
}
