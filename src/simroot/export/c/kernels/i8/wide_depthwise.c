#ifdef SR_WIDE
/* The same, eight channels at a time. Weights are those of eight channels side by side, in the order of their bytes. */
SR_MAYBE static void @NAME@_wide(const sr_grid *g, const int8_t *x, const int8_t *w, const int32_t *factor, const uint8_t *shift,
    const int32_t *bias, int top, int bottom, int32_t *sums, @OUTPUT@ *restrict y)
{
    const int channels = g->channels, width = channels < 8 ? channels : 8;
    const int fours = (g->kernel_y + 3) / 4, below = 32 * sr_wide_columns(g);
    uint8_t plane[32 * SR_WIDE_PLANE];
    int first, row, column;
    (void)sums;
    for (first = 0; first < channels; first += 8, w += 32 * fours * g->kernel_x) {
        const int c = sr_wide_unit(first, channels);
        const sr_wide_scale scale = sr_wide_prepare(sr_wide_some(bias + c, width), sr_wide_some(factor + c, width), shift + c,
            _mm256_set1_epi32(g->out_zero), width, g->low, g->high);
        for (row = top; row < bottom; ++row) {
            @OUTPUT@ *to = y + (row - top) * g->out_width * channels + c;
            sr_wide_plane(g, x, row * g->step_y - g->pad_y, c, plane);
            for (column = 0; column < g->out_width; column += 4) {
                const int wide = row < bottom - 1 || column < g->out_width - 4; /* more is written over */
                __m256i sums[4];
                column = column < g->out_width - 4 ? column : g->out_width - 4; /* the last four again */
                sr_wide_places(plane + 32 * column * g->step_x, 32 * g->step_x, 32 * g->apart_x, g->kernel_x, below, fours,
                    w, scale.bias, sums);
                sr_wide_store_@KIND@(sums, &scale, wide ? 8 : width, channels, to + column * channels);
            }
        }
    }
}
#else
#define @NAME@_wide @NAME@
#endif

