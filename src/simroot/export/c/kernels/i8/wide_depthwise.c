#ifdef SR_WIDE
/* The same, eight channels at a time. */
static void @NAME@_wide(const sr_grid *g, const int8_t *x, const int8_t *w, const int32_t *factor, const uint8_t *shift,
    const int32_t *bias, int top, int bottom, @OUTPUT@ *y)
{
    const int channels = g->channels, width = channels < 8 ? channels : 8, pairs = (g->kernel_x + 1) / 2;
    const int columns = (g->out_width - 1) * g->step_x + (g->kernel_x - 1) * g->apart_x + 1;
    const int rows = (g->kernel_y - 1) * g->apart_y + 1;
    const __m256i zeros = _mm256_set1_epi32(g->out_zero), less = _mm256_set1_epi32(g->zero);
    int16_t window[16 * SR_WIDE_PLANE], weights[16 * SR_WIDE_PAIRS];
    int first, row, column, u;
    for (first = 0; first < channels; first += 8) {
        const int c = sr_wide_unit(first, channels);
        int next = top * g->step_y - g->pad_y; /* the first row that is not there yet */
        const __m256i sum = sr_wide_plane(g, w + c, width, weights);
        const sr_wide_scale scale = sr_wide_prepare(_mm256_sub_epi32(sr_wide_some(bias + c, width), _mm256_mullo_epi32(sum, less)),
            sr_wide_some(factor + c, width), shift + c, zeros, width, g->low, g->high);
        for (row = top; row < bottom; ++row) {
            const int start = row * g->step_y - g->pad_y;
            const int16_t *lines[SR_WIDE_PAIRS];
            @OUTPUT@ *to = y + (row - top) * g->out_width * channels + c;
            for (next = next < start ? start : next; next < start + rows; ++next) {
                sr_wide_pairs(g, x, next, c, columns, window + 16 * columns * ((next + g->pad_y) % rows));
            }
            for (u = 0; u < g->kernel_y; ++u) {
                lines[u] = window + 16 * columns * ((start + u * g->apart_y + g->pad_y) % rows);
            }
            for (column = 0; column < g->out_width; column += 4) {
                const int wide = row < bottom - 1 || column < g->out_width - 4; /* more is written over */
                __m256i sums[4];
                column = column < g->out_width - 4 ? column : g->out_width - 4; /* the last four again */
                sr_wide_rows(lines, 16 * column * g->step_x, 16 * g->step_x, g->kernel_y, 32 * g->apart_x, weights, pairs,
                    scale.bias, sums);
                sr_wide_store_@KIND@(sums, &scale, wide ? 8 : width, channels, to + column * channels);
            }
        }
    }
}
#endif

