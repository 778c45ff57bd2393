#ifdef SR_WIDE
/* The windows of four pixels beside each other, less the given numbers, if all of them lie inside of the grid and eight
   numbers may be read at a time; the numbers behind the last, of which there is room for eight, do not matter. Gives
   whether they do. */
static int @NAME@(const sr_grid *g, const @INPUT@ *x, int y, int column, int next, const int16_t *less,
    int16_t *windows)
{
    const int at = column * g->step_x - g->pad_x, end = at + 3 * g->step_x + (g->kernel_x - 1) * g->apart_x;
    const int row = g->apart_y * g->width * g->channels, step = g->apart_x * g->channels;
    const int plain = next == g->channels && g->kernel_y * g->kernel_x == 1; /* all four one behind the other */
    const int pieces = g->apart_x == 1 ? 1 : g->kernel_x, pixels = plain ? 1 : 4;
    const int piece = plain ? 4 * g->channels : g->apart_x == 1 ? g->kernel_x * g->channels : g->channels;
    const int last = ((y + (g->kernel_y - 1) * g->apart_y) * g->width + end + 1) * g->channels + 7;
    int i, u, v, k;
    if (at < 0 || end >= g->width || y < 0 || y + (g->kernel_y - 1) * g->apart_y >= g->height
        || last > g->height * g->width * g->channels) {
        return 0;
    }
    for (i = 0; i < pixels; ++i) {
        const @INPUT@ *from = x + (y * g->width + at + i * g->step_x) * g->channels;
        const int16_t *minus = less;
        int16_t *to = windows + i * next;
        for (u = 0; u < g->kernel_y; ++u, from += row) {
            for (v = 0; v < pieces; ++v, to += piece, minus += piece) {
                for (k = 0; k < piece; k += 8) {
                    const __m128i numbers = @WIDEN@(_mm_loadl_epi64((const __m128i *)(from + v * step + k)));
                    const __m128i centre = _mm_loadu_si128((const __m128i *)(minus + k));
                    _mm_storeu_si128((__m128i *)(to + k), _mm_sub_epi16(numbers, centre));
                }
            }
        }
        _mm_storel_epi64((__m128i *)to, _mm_setzero_si128());
@BEHIND@
    }
    return 1;
}
#endif
