#ifdef SR_WIDE
#define SR_WIDE_PLANE 1024
#define SR_WIDE_PAIRS 28

/* Whether pairs of all rows that a filter reads have room: of eight channels at two taps beside each other. */
static int sr_wide_plane_fits(const sr_grid *g)
{
    const int columns = (g->out_width - 1) * g->step_x + (g->kernel_x - 1) * g->apart_x + 1;
    return g->out_width >= 4 && g->kernel_y * ((g->kernel_x + 1) / 2) <= SR_WIDE_PAIRS
        && ((g->kernel_y - 1) * g->apart_y + 1) * columns <= SR_WIDE_PLANE;
}

/* Eight channels of a pixel from c on, or the grid's zero outside of it. */
static inline __m128i sr_wide_pixel(const sr_grid *g, const int8_t *x, int row, int column, int c)
{
    const int at = (row * g->width + column) * g->channels + c;
    int8_t some[8] = {0};
    if (row < 0 || row >= g->height || column < 0 || column >= g->width) {
        return _mm_set1_epi8((char)g->zero);
    }
    if (at + 8 <= g->height * g->width * g->channels) {
        return _mm_loadl_epi64((const __m128i *)(x + at));
    }
    memcpy(some, x + at, (size_t)(g->height * g->width * g->channels - at)); /* the last of a grid with fewer channels */
    return _mm_loadl_epi64((const __m128i *)some);
}

/* Of a row, which may lie outside of the grid: eight channels from c on at each column and the next that a filter reads. */
static void sr_wide_pairs(const sr_grid *g, const int8_t *x, int row, int c, int columns, int16_t *to)
{
    const int channels = g->channels, step = g->apart_x * channels;
    const int8_t *const from = x + (row * g->width - g->pad_x) * channels + c;
    /* Columns from first on, before last, lie inside with the next, and eight channels may be read. */
    const int inside = row >= 0 && row < g->height, short_by = channels < 8 ? 8 / channels : 0;
    const int end = g->width + g->pad_x - g->apart_x - short_by, first = inside ? g->pad_x : columns;
    const int last = end < columns ? end : columns;
    int k;
    for (k = 0; k < columns; ++k, to += 16) {
        __m128i two;
        if (k >= first && k < last) {
            two = _mm_unpacklo_epi8(_mm_loadl_epi64((const __m128i *)(from + k * channels)),
                _mm_loadl_epi64((const __m128i *)(from + k * channels + step)));
        } else {
            two = _mm_unpacklo_epi8(sr_wide_pixel(g, x, row, k - g->pad_x, c),
                sr_wide_pixel(g, x, row, k - g->pad_x + g->apart_x, c));
        }
        _mm256_storeu_si256((__m256i *)to, _mm256_cvtepi8_epi16(two));
    }
}

/* The weights of these pairs; behind the last of an odd row stands zero. Gives the sum of all, of each channel. */
static __m256i sr_wide_plane(const sr_grid *g, const int8_t *w, int count, int16_t *to)
{
    const int pairs = (g->kernel_x + 1) / 2;
    __m256i sum = _mm256_setzero_si256();
    int u, v, k;
    memset(to, 0, sizeof *to * 16 * (size_t)(g->kernel_y * pairs));
    for (u = 0; u < g->kernel_y; ++u, to += 16 * pairs) {
        for (v = 0; v < g->kernel_x; ++v, w += g->channels) {
            for (k = 0; k < count; ++k) {
                to[v / 2 * 16 + 2 * k + v % 2] = w[k];
            }
        }
        for (k = 0; k < pairs; ++k) {
            sum = sr_wide_add(sum, _mm256_set1_epi16(1), _mm256_loadu_si256((const __m256i *)(to + 16 * k)));
        }
    }
    return sum;
}

/* Sums over rows of pairs at four places, with the bias. */
static inline void sr_wide_rows(const int16_t *const *lines, int place, int next, int rows, int step, const int16_t *w,
    int pairs, __m256i bias, __m256i *sums)
{
    __m256i a = bias, b = a, c = a, d = a;
    int u, k;
    for (u = 0; u < rows; ++u) {
        const int16_t *x = lines[u] + place;
        for (k = 0; k < pairs; ++k, x += step, w += 16) {
            const __m256i v = _mm256_loadu_si256((const __m256i *)w);
            a = sr_wide_add(a, _mm256_loadu_si256((const __m256i *)x), v);
            b = sr_wide_add(b, _mm256_loadu_si256((const __m256i *)(x + next)), v);
            c = sr_wide_add(c, _mm256_loadu_si256((const __m256i *)(x + 2 * next)), v);
            d = sr_wide_add(d, _mm256_loadu_si256((const __m256i *)(x + 3 * next)), v);
        }
    }
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
    sums[3] = d;
}
#endif
