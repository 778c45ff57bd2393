#ifdef SR_WIDE
/* Filters that lie one behind the other: of eight side by side, and of each piece of their taps @STEP@ at a time. Zeros stand
   behind a piece that is no multiple of that, and for filters that are missing. */
static void sr_wide_pack@WIDTH@(const @WEIGHT@ *w, int length, int count, int pieces, int piece, @WEIGHT@ *to)
{
    int i, j, k;
    if (count < 8) {
        memset(to, 0, (size_t)(32 * pieces * ((piece + @STEP@ - 1) / @STEP@)));
    }
    for (i = 0; i < pieces; ++i, w += piece) {
        for (k = 0; k < piece; k += @STEP@, to += 8 * @STEP@) {
            const int over = k + @STEP@ > piece ? k + @STEP@ - piece : 0;
            const uint32_t mask = 0xFFFFFFFFu >> over * @WIDTH@;
            for (j = 0; j < count; ++j) {
                const uint32_t word = sr_wide_word(w + j * length + k) & mask;
                memcpy(to + j * @STEP@, &word, sizeof word);
            }
        }
    }
}

/* Sums of eight packed filters over four windows, so many numbers apart; from one piece to the next are so many of a
   window. */
static inline void sr_wide_sums@WIDTH@(const @NUMBER@ *x, int apart, int next, const @WEIGHT@ *w, int pieces, int piece,
    __m256i *sums)
{
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    int i, k;
    for (i = 0; i < pieces; ++i, x += next) {
        for (k = 0; k < piece; k += @STEP@, w += 8 * @STEP@) {
            const __m256i v = _mm256_loadu_si256((const __m256i *)w);
            a = sr_wide_add@WIDTH@(a, _mm256_set1_epi32((int32_t)sr_wide_word(x + k)), v);
            b = sr_wide_add@WIDTH@(b, _mm256_set1_epi32((int32_t)sr_wide_word(x + k + apart)), v);
            c = sr_wide_add@WIDTH@(c, _mm256_set1_epi32((int32_t)sr_wide_word(x + k + 2 * apart)), v);
            d = sr_wide_add@WIDTH@(d, _mm256_set1_epi32((int32_t)sr_wide_word(x + k + 3 * apart)), v);
        }
    }
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
    sums[3] = d;
}
#endif
