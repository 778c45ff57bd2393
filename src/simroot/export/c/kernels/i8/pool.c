/* Rows [top, bottom) of the @WHAT@ over windows; positions outside of the grid do not count. */
static void @NAME@(const sr_grid *g, const @TYPE@ *x@PARAMETERS@, int top, int bottom, @TYPE@ *y)
{
    int row, column, c, u, v;
    for (row = top; row < bottom; ++row) {
        const int start_y = row * g->step_y - g->pad_y;
        int first_y, last_y;
        sr_inside(start_y, g->apart_y, g->kernel_y, g->height, &first_y, &last_y);
        for (column = 0; column < g->out_width; ++column) {
            const int start_x = column * g->step_x - g->pad_x;
            int first_x, last_x, count;
            sr_inside(start_x, g->apart_x, g->kernel_x, g->width, &first_x, &last_x);
            count = (last_y - first_y) * (last_x - first_x);
            for (c = 0; c < g->channels; ++c) {
                const @TYPE@ *corner = x + ((start_y + first_y * g->apart_y) * g->width + start_x + first_x * g->apart_x) * g->channels + c;
                int32_t value = @START@;
                for (u = 0; u < last_y - first_y; ++u) {
                    for (v = 0; v < last_x - first_x; ++v) {
                        const int32_t one = corner[(u * g->apart_y * g->width + v * g->apart_x) * g->channels];
                        @STEP@
                    }
                }
                y[c] = (@TYPE@)@RESULT@;
            }
            @UNUSED@
            y += g->channels;
        }
    }
}
