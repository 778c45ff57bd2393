#ifdef SR_WIDE
/* Sums of eight filters, @STEP@ taps of each side by side, over windows at four places, so many numbers apart. A window is so many
   rows of pieces, from one of which to the next are so many numbers; sums begin with what is given. */
static inline void sr_wide_sums@WIDTH@(const @NUMBER@ *x, int apart, int rows, int below, int pieces, int next, int piece,
    const @WEIGHT@ *w, __m256i start, __m256i *sums)
{
    __m256i a = start, b = a, c = a, d = a;
    int u, v, k;
    for (u = 0; u < rows; ++u, x += below) {
        const @NUMBER@ *from = x;
        for (v = 0; v < pieces; ++v, from += next) {
            for (k = 0; k < piece; k += @STEP@, w += 8 * @STEP@) {
                const __m256i weights = _mm256_loadu_si256((const __m256i *)(const void *)w);
                a = sr_wide_add@WIDTH@(a, _mm256_set1_epi32((int32_t)sr_wide_word(from + k)), weights);
                b = sr_wide_add@WIDTH@(b, _mm256_set1_epi32((int32_t)sr_wide_word(from + k + apart)), weights);
                c = sr_wide_add@WIDTH@(c, _mm256_set1_epi32((int32_t)sr_wide_word(from + k + 2 * apart)), weights);
                d = sr_wide_add@WIDTH@(d, _mm256_set1_epi32((int32_t)sr_wide_word(from + k + 3 * apart)), weights);
            }
        }
    }
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
    sums[3] = d;
}
#endif
