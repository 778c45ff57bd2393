/* Rows [top, bottom) of @WHAT@ into y, which begins with row top: two pixels by two filters at a time.
   room: two windows of the given length in 16 bits, then one in bytes. */
static void @NAME@(const sr_grid *g, const @INPUT@ *x, int length, const @WEIGHT@ *w@PARAMETERS@, const int32_t *factor,
    const uint8_t *shift@MORE@, const int32_t *bias, int top, int bottom, int16_t *room, @OUTPUT@ *y)
{
    const int units = g->filters / g->groups;
    int row, column, group, unit, i, j;
    int32_t sums[4];
    for (row = top; row < bottom; ++row) {
        for (column = 0; column < g->out_width; column += 2) {
            const int pixels = column + 1 < g->out_width ? 2 : 1;
            @OUTPUT@ *const to = y + ((row - top) * g->out_width + column) * g->filters;
            for (group = 0; group < g->groups; ++group) {
                for (i = 0; i < 2; ++i) {
                    const int at = column + (i < pixels ? i : 0);
                    @WINDOW@
                }
                for (unit = 0; unit < units; unit += 2) {
                    const int first = group * units + unit, count = unit + 1 < units ? 2 : 1;
                    @DOT@;
                    for (j = 0; j < count; ++j) {
                        const int u = first + j;
                        for (i = 0; i < pixels; ++i) {
                            to[i * g->filters + u] = (@OUTPUT@)sr_rescale(@TOTAL@, factor[u], shift[u], @ZERO@, g->low, g->high);
                        }
                    }
                }
            }
        }
    }
}
