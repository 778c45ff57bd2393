/* Rows [top, bottom) of @WHAT@ into y, which begins with row top: two pixels by two filters at a time.
   parts: of the window, so many rows of taps each, whose numbers are as many as the given length.
   room: sums, then two such parts in 16 bits, then one in bytes. */
SR_MAYBE static void @NAME@(const sr_grid *g, const @INPUT@ *x, int parts, int length, const @WEIGHT@ *w@PARAMETERS@, const int32_t *factor,
    const uint8_t *shift@MORE@, const int32_t *bias, int top, int bottom, int32_t *sums, @OUTPUT@ *y)
{
    const int units = g->filters / g->groups, all = parts * length, rows = g->kernel_y / parts;
    const int kept = parts > 1 ? 2 : 0; /* sums of all filters, until the last part has come */
    int16_t *const room = (int16_t *)(sums + (parts > 1 ? 2 * (units + units % 2) : 4));
    int row, column, group, part, unit, i, j;
    for (row = top; row < bottom; ++row) {
        for (column = 0; column < g->out_width; column += 2) {
            const int pixels = column + 1 < g->out_width ? 2 : 1;
            @OUTPUT@ *const to = y + ((row - top) * g->out_width + column) * g->filters;
            for (group = 0; group < g->groups; ++group) {
                for (part = 0; part < parts; ++part) {
                    for (i = 0; i < 2; ++i) {
                        const int at = column + (i < pixels ? i : 0);
                        const int down = row * g->step_y - g->pad_y + part * rows * g->apart_y;
                        @WINDOW@
                    }
                    for (unit = 0; unit < units; unit += 2) {
                        const int first = (group * units + unit) * all + part * length;
                        const int count = unit + 1 < units ? 2 : 1, second = count == 2 ? first + all : first;
                        int32_t *const sum = sums + kept * unit;
                        if (part == 0) {
                            sum[0] = sum[1] = sum[2] = sum[3] = 0;
                        }
                        @DOT@;
                        if (part < parts - 1) {
                            continue;
                        }
                        for (j = 0; j < count; ++j) {
                            const int u = group * units + unit + j;
                            for (i = 0; i < pixels; ++i) {
                                to[i * g->filters + u] = (@OUTPUT@)sr_rescale(@TOTAL@, factor[u], shift[u], @ZERO@, g->low, g->high);
                            }
                        }
                    }
                }
            }
        }
    }
}
