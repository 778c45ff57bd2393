/* Rows [top, bottom) of @WHAT@ into y, which begins with row top. */
static void @NAME@(const sr_grid *g, const @INPUT@ *x, const float *w, @MORE@const float *bias, int top, int bottom,
    float *y)
{
@SIZES@
    /* Columns from first on, before last, see no column outside of the grid. */
    const int last = sr_least((g->width - 1 - (g->kernel_x - 1) * g->apart_x + g->pad_x) / g->step_x + 1, g->out_width);
    const int first = (g->pad_x + g->step_x - 1) / g->step_x;
    const int many = SR_PIXELS > last - first ? (SR_PIXELS > 4 && last - first >= 4 ? 4 : 1) : SR_PIXELS;
    int group, unit, count, row, column;
@UNUSED@
    for (group = 0; group < groups; ++group) {
        for (unit = 0; unit < units; unit += count) {
            const int filter = group * units + unit;
            count = @COUNT@;
            for (row = top; row < bottom; ++row) {
                const int start_y = row * g->step_y - g->pad_y;
                int first_y, last_y, pixels;
                sr_inside(start_y, g->apart_y, g->kernel_y, g->height, &first_y, &last_y);
                for (column = 0; column < g->out_width; column += pixels) {
                    int start_x, first_x = 0, last_x = g->kernel_x, from;
                    float *to;
                    pixels = @PIXELS@;
                    if (pixels > 1) { /* the last ones again, rather than fewer */
                        column = sr_least(column, last - many);
                    }
                    start_x = column * g->step_x - g->pad_x;
                    if (pixels == 1) {
                        sr_inside(start_x, g->apart_x, g->kernel_x, g->width, &first_x, &last_x);
                    }
                    from = ((start_y + first_y * g->apart_y) * g->width + start_x + first_x * g->apart_x) * g->channels
                        + @CHANNEL@;
                    if (first_y == last_y || first_x == last_x) {
                        from = 0;
                    }
                    to = y + ((row - top) * g->out_width + column) * g->filters + filter;
@WINDOW@
@CALLS@
                }
            }
        }
    }
}
