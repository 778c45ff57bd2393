#ifdef SR_WIDE
/* Bytes, those bits of each turned over that flip has. */
static inline void sr_wide_copy(uint8_t *to, const uint8_t *from, int count, int flip)
{
    int k = 0;
    for (; k + 16 <= count; k += 16) {
        const __m128i bytes = _mm_loadu_si128((const __m128i *)(from + k));
        _mm_storeu_si128((__m128i *)(to + k), _mm_xor_si128(bytes, _mm_set1_epi8((char)flip)));
    }
    if (k + 8 <= count) {
        const __m128i bytes = _mm_loadl_epi64((const __m128i *)(from + k));
        _mm_storel_epi64((__m128i *)(to + k), _mm_xor_si128(bytes, _mm_set1_epi8((char)flip)));
        k += 8;
    }
    if (k + 4 <= count) {
        uint32_t word;
        memcpy(&word, from + k, sizeof word);
        word ^= (uint32_t)flip * 0x01010101u;
        memcpy(to + k, &word, sizeof word);
        k += 4;
    }
    for (; k < count; ++k) {
        to[k] = (uint8_t)(from[k] ^ flip);
    }
}

/* The windows of four pixels beside each other as sr_gather has them, flipped; from one to the next are so many bytes. The
   bytes behind the last tap do not matter. */
static void sr_wide_windows(const sr_grid *g, const uint8_t *x, int y, int column, int length, int next, const uint8_t *fill,
    int flip, uint8_t *to)
{
    const int row = g->apart_y * g->width * g->channels, step = g->apart_x * g->channels;
    const int pieces = g->apart_x == 1 ? 1 : g->kernel_x, piece = g->apart_x == 1 ? g->kernel_x * g->channels : g->channels;
    const int inside = y >= 0 && y + (g->kernel_y - 1) * g->apart_y < g->height;
    int i, u, v, k;
    if (g->kernel_y * g->kernel_x == 1 && g->step_x == 1 && next == g->channels && inside && column >= g->pad_x
        && column + 3 - g->pad_x < g->width) { /* all four lie one behind the other */
        sr_wide_copy(to, x + (y * g->width + column - g->pad_x) * g->channels, 4 * g->channels, flip);
        return;
    }
    for (i = 0; i < 4; ++i, to += next) {
        const int at = (column + i) * g->step_x - g->pad_x;
        if (inside && at >= 0 && at + (g->kernel_x - 1) * g->apart_x < g->width) {
            const uint8_t *from = x + (y * g->width + at) * g->channels;
            uint8_t *tap = to;
            for (u = 0; u < g->kernel_y; ++u, from += row) {
                for (v = 0; v < pieces; ++v, tap += piece) {
                    sr_wide_copy(tap, from + v * step, piece, flip);
                }
            }
        } else {
            sr_gather(g, x, y, g->kernel_y, column + i, 0, length, fill, to);
            for (k = 0; k < length; ++k) {
                to[k] = (uint8_t)(to[k] ^ flip);
            }
        }
    }
}
#endif
