#ifdef SR_WIDE
/* Filters that lie one behind the other: of eight side by side, and of each piece of their taps two at a time. An odd piece
   has a zero behind it. */
static void sr_wide_pack@WIDTH@(const @WEIGHT@ *w, int length, int count, int pieces, int piece, @WEIGHT@ *to)
{
    const __m256i places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), none = _mm256_setzero_si256();
    const __m256i index = _mm256_mullo_epi32(places, _mm256_set1_epi32(length * (int)sizeof *w));
    const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(count), places);@ORDER@
    int i, k;
    for (i = 0; i < pieces; ++i, w += piece) {
        for (k = 0; k < piece; k += @STEP@) {
            __m256i found = _mm256_mask_i32gather_epi32(none, (const int *)(const void *)(w + k), index, mask, 1);
            if (k + @STEP@ > piece) {
                found = _mm256_and_si256(found, _mm256_set1_epi32((int)(0xFFFFFFFFu >> (k + @STEP@ - piece) * @WIDTH@)));
            }
            _mm256_storeu_si256((__m256i *)to, @PAIRS@);
            to += piece - k > 2 ? 8 * @STEP@ : 16;
        }
    }
}

/* Sums of eight packed filters over four windows; from one piece to the next are so many numbers of a window. */
static inline void sr_wide_sums@WIDTH@(const int16_t *x, int length, int next, const @WEIGHT@ *w, int pieces, int pairs,
    __m256i *sums)
{
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    int i, k;
    for (i = 0; i < pieces; ++i, x += next) {
        for (k = 0; k < 2 * pairs; k += 2, w += 16) {
            const __m256i v = sr_sixteen@WIDTH@(w);
            a = sr_wide_add(a, _mm256_set1_epi32(sr_pair(x + k)), v);
            b = sr_wide_add(b, _mm256_set1_epi32(sr_pair(x + k + length)), v);
            c = sr_wide_add(c, _mm256_set1_epi32(sr_pair(x + k + 2 * length)), v);
            d = sr_wide_add(d, _mm256_set1_epi32(sr_pair(x + k + 3 * length)), v);
        }
    }
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
    sums[3] = d;
}
#endif
