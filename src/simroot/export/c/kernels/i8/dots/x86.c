#ifdef __AVX2__
static inline __m256i sr_sixteen@WIDTH@(const @WEIGHT@ *w)
{
    return @X86SIXTEEN@;
}
#endif

static inline __m128i sr_eight@WIDTH@(const @WEIGHT@ *w)
{
    return @X86EIGHT@;
}

static inline __m128i sr_four@WIDTH@(const @WEIGHT@ *w)
{
    int64_t bits = 0;
    memcpy(&bits, w, 4 * sizeof *w);
    return @X86FOUR@;
}

static inline void sr_dot@WIDTH@_of_two(const int16_t *x, int length, const @WEIGHT@ *w, const @WEIGHT@ *v, int32_t *sums)
{
    const int16_t *y = x + length;
    __m128i a = _mm_setzero_si128(), b = a, c = a, d = a;
    int k = 0;
#ifdef __AVX2__
    if (length >= 16) {
        __m256i a2 = _mm256_setzero_si256(), b2 = a2, c2 = a2, d2 = a2;
        for (; k + 16 <= length; k += 16) {
            const __m256i p = _mm256_loadu_si256((const __m256i *)(x + k)), q = _mm256_loadu_si256((const __m256i *)(y + k));
            const __m256i f = sr_sixteen@WIDTH@(w + k), g = sr_sixteen@WIDTH@(v + k);
            a2 = _mm256_add_epi32(a2, _mm256_madd_epi16(p, f));
            b2 = _mm256_add_epi32(b2, _mm256_madd_epi16(p, g));
            c2 = _mm256_add_epi32(c2, _mm256_madd_epi16(q, f));
            d2 = _mm256_add_epi32(d2, _mm256_madd_epi16(q, g));
        }
        a = _mm_add_epi32(_mm256_castsi256_si128(a2), _mm256_extracti128_si256(a2, 1));
        b = _mm_add_epi32(_mm256_castsi256_si128(b2), _mm256_extracti128_si256(b2, 1));
        c = _mm_add_epi32(_mm256_castsi256_si128(c2), _mm256_extracti128_si256(c2, 1));
        d = _mm_add_epi32(_mm256_castsi256_si128(d2), _mm256_extracti128_si256(d2, 1));
    }
#endif
    for (; k + 8 <= length; k += 8) {
        const __m128i p = _mm_loadu_si128((const __m128i *)(x + k)), q = _mm_loadu_si128((const __m128i *)(y + k));
        const __m128i f = sr_eight@WIDTH@(w + k), g = sr_eight@WIDTH@(v + k);
        a = _mm_add_epi32(a, _mm_madd_epi16(p, f));
        b = _mm_add_epi32(b, _mm_madd_epi16(p, g));
        c = _mm_add_epi32(c, _mm_madd_epi16(q, f));
        d = _mm_add_epi32(d, _mm_madd_epi16(q, g));
    }
    if (k < length) {
        const __m128i p = _mm_loadl_epi64((const __m128i *)(x + k)), q = _mm_loadl_epi64((const __m128i *)(y + k));
        const __m128i f = sr_four@WIDTH@(w + k), g = sr_four@WIDTH@(v + k);
        a = _mm_add_epi32(a, _mm_madd_epi16(p, f));
        b = _mm_add_epi32(b, _mm_madd_epi16(p, g));
        c = _mm_add_epi32(c, _mm_madd_epi16(q, f));
        d = _mm_add_epi32(d, _mm_madd_epi16(q, g));
    }
    a = _mm_add_epi32(_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b));
    c = _mm_add_epi32(_mm_unpacklo_epi32(c, d), _mm_unpackhi_epi32(c, d));
    a = _mm_add_epi32(_mm_unpacklo_epi64(a, c), _mm_unpackhi_epi64(a, c));
    _mm_storeu_si128((__m128i *)sums, _mm_add_epi32(_mm_loadu_si128((const __m128i *)sums), a));
}
