@LANES@
/* @WHAT@ over a window of so many channels, rows by pieces positions. */
static inline void @NAME@_some(const sr_grid *g, const @TYPE@ *x@PARAMETERS@, int rows, int pieces, int channels, @TYPE@ *y)
{
    const int count = rows * pieces;
    @SUM@ value[8] = {0};
    int c, u, v;
    for (c = 0; c < channels; ++c) {
        value[c] = @START@;
    }
    for (u = 0; u < rows; ++u) {
        for (v = 0; v < pieces; ++v) {
            const @TYPE@ *from = x + (u * g->apart_y * g->width + v * g->apart_x) * g->channels;
            for (c = 0; c < channels; ++c) {
                value[c] = @STEP@;
            }
        }
    }
    for (c = 0; c < channels; ++c) {
        y[c] = (@TYPE@)@RESULT@;
    }
    @UNUSED@
}

/* Rows [top, bottom) of the @WHAT@ over windows; positions outside of the grid do not count. */
static void @NAME@(const sr_grid *g, const @TYPE@ *x@PARAMETERS@, int top, int bottom, @TYPE@ *y)
{
    int row, column, c;
    for (row = top; row < bottom; ++row) {
        const int start_y = row * g->step_y - g->pad_y;
        int first_y, last_y;
        sr_inside(start_y, g->apart_y, g->kernel_y, g->height, &first_y, &last_y);
        for (column = 0; column < g->out_width; ++column, y += g->channels) {
            const int start_x = column * g->step_x - g->pad_x;
            const @TYPE@ *from;
            int first_x, last_x;
            sr_inside(start_x, g->apart_x, g->kernel_x, g->width, &first_x, &last_x);
            from = x + ((start_y + first_y * g->apart_y) * g->width + start_x + first_x * g->apart_x) * g->channels;
            c = 0;
@FIRST@
#ifdef SR_MANY
            for (; c + 8 <= g->channels; c += 8) {
                @NAME@_some(g, from + c@PASSED@, last_y - first_y, last_x - first_x, 8, y + c);
            }
            for (; c + 4 <= g->channels; c += 4) {
                @NAME@_some(g, from + c@PASSED@, last_y - first_y, last_x - first_x, 4, y + c);
            }
#endif
            for (; c < g->channels; ++c) {
                @NAME@_some(g, from + c@PASSED@, last_y - first_y, last_x - first_x, 1, y + c);
            }
        }
    }
}
