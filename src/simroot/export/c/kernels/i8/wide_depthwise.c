#ifdef SR_WIDE
/* The same where it fits, eight channels at a time; gives whether it did. */
static int @NAME@_wide(const sr_grid *g, const int8_t *x, const int8_t *w, const int32_t *factor, const uint8_t *shift,
    const int32_t *bias, int top, int bottom, @OUTPUT@ *restrict y)
{
    const int channels = g->channels, width = channels < 8 ? channels : 8;
    const int fours = (g->kernel_y + 3) / 4, below = 32 * sr_wide_columns(g);
    const __m256i zeros = _mm256_set1_epi32(g->out_zero), less = _mm256_set1_epi32(g->zero + 128);
    uint8_t plane[32 * SR_WIDE_PLANE];
    int8_t weights[32 * SR_WIDE_FILTER];
    int first, row, column;
    if (!sr_wide_plane_fits(g) || !sr_wide_fits(shift, NULL, channels, 32)) {
        return 0;
    }
    for (first = 0; first < channels; first += 8) {
        const int c = sr_wide_unit(first, channels);
        const __m256i sum = sr_wide_taps(g, w + c, width, weights);
        const sr_wide_scale scale = sr_wide_prepare(_mm256_sub_epi32(sr_wide_some(bias + c, width), _mm256_mullo_epi32(sum, less)),
            sr_wide_some(factor + c, width), shift + c, zeros, width, g->low, g->high);
        for (row = top; row < bottom; ++row) {
            @OUTPUT@ *to = y + (row - top) * g->out_width * channels + c;
            sr_wide_plane(g, x, row * g->step_y - g->pad_y, c, plane);
            for (column = 0; column < g->out_width; column += 4) {
                const int wide = row < bottom - 1 || column < g->out_width - 4; /* more is written over */
                __m256i sums[4];
                column = column < g->out_width - 4 ? column : g->out_width - 4; /* the last four again */
                sr_wide_places(plane + 32 * column * g->step_x, 32 * g->step_x, 32 * g->apart_x, g->kernel_x, below, fours,
                    weights, scale.bias, sums);
                sr_wide_store_@KIND@(sums, &scale, wide ? 8 : width, channels, to + column * channels);
            }
        }
    }
    return 1;
}
#endif

