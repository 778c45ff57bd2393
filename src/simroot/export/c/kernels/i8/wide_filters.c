#ifdef SR_WIDE
/* The same of packed filters: four pixels by eight filters at a time. Those are of each group, the last eight again rather than
   fewer; of eight filters @STEP@ taps lie side by side, and zeros behind each piece that is no multiple of that. */
SR_MAYBE static void @NAME@_wide(const sr_grid *g, const @INPUT@ *x, int parts, int length, const @WEIGHT@ *w@PARAMETERS@, const int32_t *factor,
    const uint8_t *shift@MORE@, const int32_t *bias, int top, int bottom, int32_t *room, @OUTPUT@ *restrict y)
{
    const int units = g->filters / g->groups, width = units < 8 ? units : 8, each = (units + 7) / 8;
    const int depth = g->channels / g->groups, joined = g->groups == 1 && g->apart_x == 1;
    const int pieces = joined ? 1 : g->kernel_x, piece = joined ? g->kernel_x * depth : depth;
    const int size = 8 * ((piece + @STEP@ - 1) / @STEP@ * @STEP@) * pieces * @PLANES@ * g->kernel_y;
    const int alone = g->kernel_y * g->kernel_x == 1 && g->step_y * g->step_x == 1 && g->pad_y + g->pad_x == 0;
    const int flat = alone && g->out_width == g->width;
    const int across = flat ? (bottom - top) * g->out_width : g->out_width; /* as one row */
    const int source = flat ? across : g->width, less = g->step_x - (g->kernel_x - 1) * g->apart_x - 1;
    const int most = (SR_WIDE_ROWS / (g->kernel_y * g->channels) + less) / g->step_x & ~3;
    uint8_t bytes[SR_WIDE_ROWS + 4];
    int row, first, column, block;@WINDOWS@
    (void)parts;
    (void)length;
    (void)room;
    if (flat) {
        x += top * g->width * g->channels;
        bottom = top + 1;
    }
    for (row = top; row < bottom; ++row, y += across * g->filters) {
        for (first = 0; first < across; first += most) {
            const int start = first < across - 4 ? first : across - 4, count = across - start < most ? across - start : most;
            const int columns = count * g->step_x - less, numbers = columns * g->channels;
            sr_wide_rows(g, (const uint8_t *)x, source, flat ? 0 : row * g->step_y - g->pad_y, start * g->step_x - g->pad_x, columns, @FILL@,
                @FLIP@, bytes);@WIDENED@
            for (block = 0; block < g->groups * each; ++block) {
                const int which = block / each, u = which * units + sr_wide_unit(block % each * 8, units);
                const sr_wide_scale scale = sr_wide_prepare(sr_wide_some(bias + u, width), sr_wide_some(factor + u, width), shift + u,
                    @ZEROS@, width, g->low, g->high);
                for (column = 0; column < count; column += 4) {
                    const int wide = g->groups == 1 && (row < bottom - 1 || start + column < across - 4); /* more is written over */
                    __m256i sums[4];
                    column = column < count - 4 ? column : count - 4; /* the last four again */
                    sr_wide_sums@WIDTH@(@FROM@ + column * g->step_x * g->channels + which * depth, g->step_x * g->channels, @PLANES@ * g->kernel_y,
                        numbers, pieces, g->apart_x * g->channels, piece, w + block * size, scale.bias, sums);
                    sr_wide_store_@KIND@(sums, &scale, wide ? 8 : width, g->filters, y + (start + column) * g->filters + u);
                }
            }
        }
    }
}
#else
#define @NAME@_wide @NAME@
#endif
