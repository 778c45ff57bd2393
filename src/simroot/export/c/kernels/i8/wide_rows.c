#ifdef SR_WIDE
#define SR_WIDE_ROWS @ROOM@

/* Bytes, those bits of each turned over that flip has. */
static inline void sr_wide_copy(uint8_t *to, const uint8_t *from, int count, int flip)
{
    int k = 0;
    for (; k + 32 <= count; k += 32) {
        const __m256i bytes = _mm256_loadu_si256((const __m256i *)(const void *)(from + k));
        _mm256_storeu_si256((__m256i *)(void *)(to + k), _mm256_xor_si256(bytes, _mm256_set1_epi8((char)flip)));
    }
    for (; k + 8 <= count; k += 8) {
        const __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)(from + k));
        _mm_storel_epi64((__m128i *)(void *)(to + k), _mm_xor_si128(bytes, _mm_set1_epi8((char)flip)));
    }
    for (; k < count; ++k) {
        to[k] = (uint8_t)(from[k] ^ flip);
    }
}

/* Pixels outside of the grid: the bytes of fill, or what stands for zero. */
static inline void sr_wide_fill(const sr_grid *g, uint8_t *to, int count, const uint8_t *fill, int flip)
{
    int k, c;
    if (fill == NULL) {
        memset(to, g->zero ^ flip, (size_t)(count * g->channels));
        return;
    }
    for (k = 0; k < count; ++k) {
        for (c = 0; c < g->channels; ++c) {
            *to++ = fill[c];
        }
    }
}

/* Some columns of all rows that a row of results reads, one behind the other, flipped; four bytes follow. */
SR_MAYBE static void sr_wide_rows(const sr_grid *g, const uint8_t *x, int width, int y, int column, int columns, const uint8_t *fill, int flip,
    uint8_t *to)
{
    const int most = width - column < columns ? width - column : columns;
    int u;
    for (u = 0; u < g->kernel_y; ++u, y += g->apart_y) {
        const int inside = y >= 0 && y < g->height, first = inside && column < 0 ? (columns < -column ? columns : -column) : 0;
        const int last = inside && most > first ? most : first;
        sr_wide_fill(g, to, first, fill, flip);
        sr_wide_copy(to + first * g->channels, x + (y * width + column + first) * g->channels, (last - first) * g->channels, flip);
        sr_wide_fill(g, to + last * g->channels, columns - last, fill, flip);
        to += columns * g->channels;
    }
    memset(to, 0, 4);
}
#endif
