/* Eight filters side by side where there is AVX2: their sums of 32 bits in one vector, two taps at a time. */
#ifdef SR_WIDE
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define SR_WIDE_512
#endif
#define SR_WIDE_SPARE 13 /* by so many bits a number of 17 may be moved */

/* What brings sums of eight filters to their results; without AVX-512, odd are those of filters 1, 3, 5 and 7. */
typedef struct {
    __m256i bias;
#ifdef SR_WIDE_512
    __m512i factors, halves, shifts, zeros, low, high;
#else
    __m256i low, high, factors, odd_factors, halves, odd_halves, shifts, odd_shifts, zeros;
#endif
} sr_wide_scale;

/* Whether results before limits have 32 bits, of shifts that are not less than the least. */
SR_MAYBE static inline int sr_wide_fits(const uint8_t *shift, const int32_t *zeros, int count, int least)
{
    int k;
    for (k = 0; k < count; ++k) {
        if (shift[k] < least || (zeros != NULL && (zeros[k] <= -(1 << 30) || zeros[k] >= 1 << 30))) {
            return 0;
        }
    }
    return 1;
}

/* Where eight filters begin: the last eight again, rather than fewer. */
SR_MAYBE static inline int sr_wide_unit(int unit, int units)
{
    return units < 8 ? 0 : unit < units - 8 ? unit : units - 8;
}

SR_MAYBE static inline __m256i sr_wide_some(const int32_t *from, int count)
{
    const __m256i places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_maskload_epi32((const int *)from, _mm256_cmpgt_epi32(_mm256_set1_epi32(count), places));
}

SR_MAYBE static sr_wide_scale sr_wide_prepare(__m256i bias, __m256i factors, const uint8_t *shift, __m256i zeros, int count,
    int32_t low, int32_t high)
{
    sr_wide_scale s;
    __m256i shifts;
    int64_t bytes = 0;
    memcpy(&bytes, shift, (size_t)count);
    shifts = _mm256_cvtepu8_epi32(_mm_set_epi64x(0, bytes));
    s.bias = bias;
#ifdef SR_WIDE_512
    s.low = _mm512_set1_epi32(low);
    s.high = _mm512_set1_epi32(high);
    s.factors = _mm512_cvtepi32_epi64(factors);
    s.shifts = _mm512_cvtepi32_epi64(shifts);
    s.halves = _mm512_srlv_epi64(_mm512_sllv_epi64(_mm512_set1_epi64(1), s.shifts), _mm512_set1_epi64(1));
    s.zeros = _mm512_inserti64x4(_mm512_castsi256_si512(zeros), zeros, 1);
#else
    s.low = _mm256_set1_epi16((int16_t)low);
    s.high = _mm256_set1_epi16((int16_t)high);
    {
        const __m256i one = _mm256_set1_epi64x(1), top = _mm256_slli_epi64(one, 63);
        s.factors = factors;
        s.odd_factors = _mm256_srli_epi64(factors, 32);
        s.shifts = _mm256_and_si256(shifts, _mm256_set1_epi64x(0xFFFFFFFF));
        s.odd_shifts = _mm256_srli_epi64(shifts, 32);
        s.halves = _mm256_or_si256(top, _mm256_sllv_epi64(one, _mm256_sub_epi64(s.shifts, one)));
        s.odd_halves = _mm256_or_si256(top, _mm256_sllv_epi64(one, _mm256_sub_epi64(s.odd_shifts, one)));
        s.odd_shifts = _mm256_sub_epi64(s.odd_shifts, _mm256_set1_epi64x(32));
        /* Products are moved by 2^63 to have no sign; that comes off again here. */
        s.zeros = _mm256_sub_epi32(zeros,
            _mm256_sllv_epi32(_mm256_set1_epi32(1), _mm256_sub_epi32(_mm256_set1_epi32(63), shifts)));
    }
#endif
    return s;
}

/* As sr_rescale, of two times eight sums with the bias, within limits. */
#ifdef SR_WIDE_512
SR_MAYBE static inline __m512i sr_wide_rescale(__m256i value, const sr_wide_scale *s)
{
    const __m512i product = _mm512_mul_epi32(_mm512_cvtepi32_epi64(value), s->factors);
    return _mm512_srav_epi64(_mm512_add_epi64(product, s->halves), s->shifts);
}

SR_MAYBE static inline __m512i sr_wide_results(__m256i a, __m256i b, const sr_wide_scale *s)
{
    const __m512i halves = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i found = _mm512_permutex2var_epi32(sr_wide_rescale(a, s), halves, sr_wide_rescale(b, s));
    return _mm512_min_epi32(_mm512_max_epi32(_mm512_add_epi32(found, s->zeros), s->low), s->high);
}
#else /* of even filters the result lies in the lower half of 64 bits, of odd ones in the upper */
SR_MAYBE static inline __m256i sr_wide_rescale(__m256i value, const sr_wide_scale *s)
{
    const __m256i odd = _mm256_srli_epi64(value, 32);
    const __m256i a = _mm256_srlv_epi64(_mm256_add_epi64(_mm256_mul_epi32(value, s->factors), s->halves), s->shifts);
    const __m256i b = _mm256_srlv_epi64(_mm256_add_epi64(_mm256_mul_epi32(odd, s->odd_factors), s->odd_halves), s->odd_shifts);
    return _mm256_add_epi32(_mm256_blend_epi32(a, b, 0xAA), s->zeros);
}

SR_MAYBE static inline __m256i sr_wide_results(__m256i a, __m256i b, const sr_wide_scale *s)
{
    const __m256i both = _mm256_packs_epi32(sr_wide_rescale(a, s), sr_wide_rescale(b, s));
    return _mm256_min_epi16(_mm256_max_epi16(_mm256_permute4x64_epi64(both, 0xD8), s->low), s->high);
}
#endif

/* Eight numbers. */
SR_MAYBE static inline __m256i sr_wide_load_int8(const int8_t *from)
{
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)from));
}

SR_MAYBE static inline __m256i sr_wide_load_uint8(const uint8_t *from)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)from));
}

SR_MAYBE static inline __m256i sr_wide_load_int16(const int16_t *from)
{
    return _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)from));
}

/* Some of eight bytes. */
SR_MAYBE static inline void sr_wide_put(int64_t bytes, int count, int8_t *to)
{
    uint64_t bits = (uint64_t)bytes;
    if (count == 8) {
        memcpy(to, &bits, 8);
        return;
    }
    if (count & 4) {
        memcpy(to, &bits, 4);
        to += 4;
        bits >>= 32;
    }
    if (count & 2) {
        memcpy(to, &bits, 2);
        to += 2;
        bits >>= 16;
    }
    if (count & 1) {
        memcpy(to, &bits, 1);
    }
}

/* Results of eight filters, or fewer, from four sums with their bias; step lies between them. */
SR_MAYBE static inline void sr_wide_store_int8(const __m256i *sums, const sr_wide_scale *s, int count, int step, int8_t *to)
{
#ifdef SR_WIDE_512
    const __m128i first = _mm512_cvtepi32_epi8(sr_wide_results(sums[0], sums[1], s));
    const __m128i second = _mm512_cvtepi32_epi8(sr_wide_results(sums[2], sums[3], s));
    const __m128i even = _mm_unpacklo_epi64(first, second), odd = _mm_unpackhi_epi64(first, second);
#else
    const __m256i first = sr_wide_results(sums[0], sums[1], s), second = sr_wide_results(sums[2], sums[3], s);
    const __m256i all = _mm256_packs_epi16(first, second);
    const __m128i even = _mm256_castsi256_si128(all), odd = _mm256_extracti128_si256(all, 1);
#endif
    sr_wide_put(_mm_cvtsi128_si64(even), count, to);
    sr_wide_put(_mm_cvtsi128_si64(odd), count, to + step);
    sr_wide_put(_mm_cvtsi128_si64(_mm_unpackhi_epi64(even, even)), count, to + 2 * step);
    sr_wide_put(_mm_cvtsi128_si64(_mm_unpackhi_epi64(odd, odd)), count, to + 3 * step);
}

SR_MAYBE static inline void sr_wide_store_int16(const __m256i *sums, const sr_wide_scale *s, int count, int step, int16_t *to)
{
    int16_t numbers[32];
    int i;
    for (i = 0; i < 4; i += 2) {
#ifdef SR_WIDE_512
        const __m256i both = _mm512_cvtepi32_epi16(sr_wide_results(sums[i], sums[i + 1], s));
#else
        const __m256i both = sr_wide_results(sums[i], sums[i + 1], s);
#endif
        _mm256_storeu_si256((__m256i *)(void *)(numbers + 8 * i), both);
    }
    for (i = 0; i < 4; ++i) {
        memcpy(to + i * step, numbers + 8 * i, (size_t)count * sizeof *to);
    }
}

SR_MAYBE static inline uint32_t sr_wide_word(const void *from)
{
    uint32_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

/* Adds the products of four bytes without sign and four with sign. */
SR_MAYBE static inline __m256i sr_wide_add8(__m256i sum, __m256i x, __m256i w)
{
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    return _mm256_dpbusd_epi32(sum, x, w);
#else
    const __m256i even = _mm256_and_si256(x, _mm256_set1_epi16(255)), odd = _mm256_srli_epi16(x, 8);
    const __m256i first = _mm256_madd_epi16(even, _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8));
    return _mm256_add_epi32(sum, _mm256_add_epi32(first, _mm256_madd_epi16(odd, _mm256_srai_epi16(w, 8))));
#endif
}

/* Of two numbers of 16 bits. */
SR_MAYBE static inline __m256i sr_wide_add16(__m256i sum, __m256i x, __m256i w)
{
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    return _mm256_dpwssd_epi32(sum, x, w);
#else
    return _mm256_add_epi32(sum, _mm256_madd_epi16(x, w));
#endif
}
#endif
