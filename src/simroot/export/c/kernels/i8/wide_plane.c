#ifdef SR_WIDE
#define SR_WIDE_PLANE @COLUMNS@

/* Columns that a row of results reads. */
static inline int sr_wide_columns(const sr_grid *g)
{
    return (g->out_width - 1) * g->step_x + (g->kernel_x - 1) * g->apart_x + 1;
}

/* Eight bytes, or fewer. */
static inline __m128i sr_wide_part(const int8_t *from, int count)
{
    const int8_t *const rest = from + (count & 4);
    uint64_t bits = 0;
    if (count == 8) {
        return _mm_loadl_epi64((const __m128i *)from);
    }
    if (count & 1) {
        bits = (uint8_t)from[count - 1];
    }
    if (count & 2) {
        uint16_t half;
        memcpy(&half, rest, sizeof half);
        bits = bits << 16 | half;
    }
    if (count & 4) {
        uint32_t word;
        memcpy(&word, from, sizeof word);
        bits = bits << 32 | word;
    }
    return _mm_set_epi64x(0, (int64_t)bits);
}

/* Eight channels, or fewer, of four rows at some columns: of each channel one row's byte behind the other's, as bytes without sign.
   From one column to the next are so many bytes of each row. */
static inline void sr_wide_gather(const int8_t *const *rows, const int *steps, int columns, int count, uint8_t *to)
{
    const __m256i flips = _mm256_set1_epi8(-128);
    const int8_t *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];
    const int next_a = steps[0], next_b = steps[1], next_c = steps[2], next_d = steps[3];
    int k;
    for (k = 0; k < columns; ++k, a += next_a, b += next_b, c += next_c, d += next_d) {
        const __m128i first = _mm_unpacklo_epi8(sr_wide_part(a, count), sr_wide_part(b, count));
        const __m128i second = _mm_unpacklo_epi8(sr_wide_part(c, count), sr_wide_part(d, count));
        _mm256_storeu_si256((__m256i *)(to + 32 * k), _mm256_xor_si256(flips,
            _mm256_set_m128i(_mm_unpackhi_epi16(first, second), _mm_unpacklo_epi16(first, second))));
    }
}

/* Those of channels from c on that a row of results reads, of rows from y on, as bytes without sign. */
SR_MAYBE static void sr_wide_plane(const sr_grid *g, const int8_t *x, int y, int c, uint8_t *to)
{
    const int channels = g->channels, columns = sr_wide_columns(g), fewer = channels < 8 ? 7 / channels : 0;
    const int last = g->width + g->pad_x, end = last < columns ? last : columns;
    const int near = last - fewer < end ? last - fewer : end, safe = near > g->pad_x ? near : g->pad_x;
    int8_t blank[8];
    int u, i;
    memset(blank, g->zero, sizeof blank);
    for (u = 0; u < g->kernel_y; u += 4, to += 32 * columns) {
        const int8_t *rows[4];
        int steps[4];
        for (i = 0; i < 4; ++i) {
            const int row = y + (u + i) * g->apart_y, inside = u + i < g->kernel_y && row >= 0 && row < g->height;
            rows[i] = inside ? x + row * g->width * channels + c : blank;
            steps[i] = inside ? channels : 0;
        }
        memset(to, g->zero + 128, 32 * (size_t)g->pad_x);
        sr_wide_gather(rows, steps, safe - g->pad_x, 8, to + 32 * g->pad_x);
        for (i = 0; i < 4; ++i) { /* eight bytes may not be read there */
            rows[i] += (safe - g->pad_x) * steps[i];
        }
        sr_wide_gather(rows, steps, end - safe, channels < 8 ? channels : 8, to + 32 * safe);
        memset(to + 32 * end, g->zero + 128, 32 * (size_t)(columns - end));
    }
}

/* Sums at four places, with the bias; from one to the next are so many bytes, from one tap and from one four rows to the
   next, too. */
static inline void sr_wide_places(const uint8_t *x, int next, int tap, int taps, int below, int fours, const int8_t *w,
    __m256i bias, __m256i *sums)
{
    __m256i a = bias, b = a, c = a, d = a;
    int u, k;
    for (u = 0; u < fours; ++u, x += below) {
        const uint8_t *from = x;
        for (k = 0; k < taps; ++k, from += tap, w += 32) {
            const __m256i v = _mm256_loadu_si256((const __m256i *)w);
            a = sr_wide_add8(a, _mm256_loadu_si256((const __m256i *)from), v);
            b = sr_wide_add8(b, _mm256_loadu_si256((const __m256i *)(from + next)), v);
            c = sr_wide_add8(c, _mm256_loadu_si256((const __m256i *)(from + 2 * next)), v);
            d = sr_wide_add8(d, _mm256_loadu_si256((const __m256i *)(from + 3 * next)), v);
        }
    }
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
    sums[3] = d;
}
#endif
