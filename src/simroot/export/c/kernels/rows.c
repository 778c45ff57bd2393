/* Rows [top, bottom) of @WHAT@ into y, which begins with row top. */
static void @NAME@(const sr_grid *g, const @INPUT@ *x, const @WEIGHT@ *w, const @SECONDTYPE@ *second@MORE@,
    const @SUM@ *bias, int top, int bottom, @OUTPUT@ *y)
{
    const int depth = g->channels / g->groups, units = g->filters / g->groups;
    const int taps = g->kernel_y * g->kernel_x * depth;
    const int joined = g->groups == 1 && g->apart_x == 1;
    int group, unit, count, row, column, i, j;
    @SUM@ sums[32];
@UNUSED@    for (group = 0; group < g->groups; ++group) {
        for (unit = 0; unit < units; unit += count) {
            count = units - unit >= 8 ? 8 : units - unit >= 4 ? 4 : units - unit >= 2 ? 2 : 1;
            for (row = top; row < bottom; ++row) {
                const int start_y = row * g->step_y - g->pad_y;
                int first_y, last_y, pixels;
                sr_inside(start_y, g->apart_y, g->kernel_y, g->height, &first_y, &last_y);
                for (column = 0; column < g->out_width; column += pixels) {
                    const int start_x = column * g->step_x - g->pad_x;
                    const int end = start_x + 3 * g->step_x + (g->kernel_x - 1) * g->apart_x;
                    const int inner = SR_PIXELS == 4 && start_x >= 0 && column + 4 <= g->out_width && end < g->width;
                    int first_x = 0, last_x = g->kernel_x, pieces, length, from, offset;
                    pixels = inner ? 4 : 1;
                    if (!inner) {
                        sr_inside(start_x, g->apart_x, g->kernel_x, g->width, &first_x, &last_x);
                    }
                    pieces = joined ? 1 : last_x - first_x;
                    length = joined ? (last_x - first_x) * depth : depth;
                    from = ((start_y + first_y * g->apart_y) * g->width + start_x + first_x * g->apart_x) * g->channels
                        + group * depth;
                    offset = (group * units + unit) * taps + (first_y * g->kernel_x + first_x) * depth * count;
                    if (first_y == last_y || first_x == last_x) {
                        from = 0;
                    }
                    switch (count * 8 + pixels) {
@CASES@
                    default:
                        break;
                    }
                    for (i = 0; i < pixels; ++i) {
                        @OUTPUT@ *to = y + ((row - top) * g->out_width + column + i) * g->filters + group * units + unit;
                        for (j = 0; j < count; ++j) {
                            const int u = group * units + unit + j;
                            to[j] = @STORE@;
                        }
                    }
                }
            }
        }
    }
}
