/* Rows [top, bottom) of @WHAT@ into y, which begins with row top: two pixels by all filters at a time.
   parts: of the window, so many rows of taps each, whose numbers are as many as the given length.
   sums: of both pixels, then two such parts in 16 bits, then one in bytes. */
SR_MAYBE static void @NAME@(const sr_grid *g, const @INPUT@ *x, int parts, int length, const @WEIGHT@ *w@PARAMETERS@, const int32_t *factor,
    const uint8_t *shift@MORE@, const int32_t *bias, int top, int bottom, int32_t *sums, @OUTPUT@ *y)
{
    const int units = g->filters / g->groups, even = units + units % 2, all = parts * length, rows = g->kernel_y / parts;
    int32_t *const more = sums + even;
    int16_t *const room = (int16_t *)(more + even);
    int row, column, group, part, i, u;
    for (row = top; row < bottom; ++row) {
        for (column = 0; column < g->out_width; column += 2) {
            @OUTPUT@ *const to = y + ((row - top) * g->out_width + column) * g->filters;
            for (group = 0; group < g->groups; ++group) {
                const int first = group * units;
                sums[even - 1] = more[even - 1] = 0;
                for (u = 0; u < units; ++u) {
                    sums[u] = more[u] = bias[first + u];
                }
                for (part = 0; part < parts; ++part) {
                    const int place = first * all + part * length;
                    const int down = row * g->step_y - g->pad_y + part * rows * g->apart_y;
                    for (i = 0; i < 2; ++i) {
                        const int at = column + i < g->out_width ? column + i : column;
                        @WINDOW@
                    }
                    @SUMS@, all, units, sums);
                }
                for (i = 0; i < 2 && column + i < g->out_width; ++i) {
                    sr_finish_@ENDING@(i == 0 ? sums : more, units, factor + first, shift + first, @ZERO@, g->low, g->high,
                        to + i * g->filters + first);
                }
            }
        }
    }
}
