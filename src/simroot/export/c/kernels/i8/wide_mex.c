#ifdef SR_WIDE
#define SR_WIDE_TERMS 4096

SR_MAYBE static inline int32_t sr_wide_most(__m256i values)
{
    __m128i a = _mm_max_epi32(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
    a = _mm_max_epi32(a, _mm_shuffle_epi32(a, 0x4E));
    return _mm_cvtsi128_si32(_mm_max_epi32(a, _mm_shuffle_epi32(a, 0xB1)));
}

SR_MAYBE static inline uint32_t sr_wide_total(__m256i values)
{
    __m128i a = _mm_add_epi32(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
    a = _mm_add_epi32(a, _mm_shuffle_epi32(a, 0x4E));
    return (uint32_t)_mm_cvtsi128_si32(_mm_add_epi32(a, _mm_shuffle_epi32(a, 0xB1)));
}

/* sr_log2 of four numbers, in the lower halves of 64 bits. */
static inline __m256i sr_wide_log2(__m256i value)
{
    const __m256i one = _mm256_set1_epi64x(1), top = _mm256_set1_epi64x(31);
    __m256i found = top;
    int bit;
    for (bit = 16; bit > 0; bit /= 2) { /* the highest bit goes to the top */
        const __m256i few = _mm256_cmpeq_epi64(_mm256_srli_epi64(value, 32 - bit), _mm256_setzero_si256());
        const __m256i places = _mm256_and_si256(few, _mm256_set1_epi64x(bit));
        value = _mm256_sllv_epi64(value, places);
        found = _mm256_sub_epi64(found, places);
    }
    for (bit = 0; bit < 12; ++bit) {
        const __m256i square = _mm256_mul_epu32(value, value), over = _mm256_srli_epi64(square, 63);
        value = _mm256_srlv_epi64(square, _mm256_add_epi64(top, over));
        found = _mm256_or_si256(_mm256_slli_epi64(found, 1), _mm256_and_si256(over, one));
    }
    return found;
}

/* The same, eight channels at a time, and the logarithms of four units. */
static void sr_mex_wide(const int16_t *x, int pixels, int channels, int units, const int16_t *offsets, int32_t count,
    int32_t moved, int16_t *y)
{
    const int length = (channels + 7) / 8 * 8;
    int32_t terms[SR_WIDE_TERMS], numbers[SR_WIDE_TERMS];
    int pixel, c, r, j;
    for (r = 0; r < units; ++r) {
        for (c = 0; c < length; ++c) { /* what is added to a full eight adds nothing */
            terms[r * length + c] = c < channels ? offsets[r * channels + c] : -(1 << 29);
        }
    }
    memset(numbers, 0, sizeof *numbers * (size_t)length);
    for (pixel = 0; pixel < pixels; ++pixel, x += channels, y += units) {
        for (c = 0; c < channels; ++c) {
            numbers[c] = x[c];
        }
        for (r = 0; r < units; r += 4) {
            const int some = units - r < 4 ? units - r : 4;
            int32_t tops[4] = {0};
            int64_t totals[4] = {1, 1, 1, 1}, logarithms[4];
            for (j = 0; j < some; ++j) {
                const int32_t *const o = terms + (r + j) * length;
                __m256i top = _mm256_set1_epi32(-(1 << 29)), total = _mm256_setzero_si256();
                for (c = 0; c < length; c += 8) {
                    top = _mm256_max_epi32(top, _mm256_add_epi32(_mm256_loadu_si256((const __m256i *)(numbers + c)),
                        _mm256_loadu_si256((const __m256i *)(o + c))));
                }
                tops[j] = sr_wide_most(top);
                top = _mm256_set1_epi32(tops[j]);
                for (c = 0; c < length; c += 8) {
                    const __m256i term = _mm256_add_epi32(_mm256_loadu_si256((const __m256i *)(numbers + c)),
                        _mm256_loadu_si256((const __m256i *)(o + c)));
                    const __m256i below = _mm256_sub_epi32(top, term);
                    const __m256i steps = _mm256_i32gather_epi32((const int *)(const void *)sr_exp2_table,
                        _mm256_and_si256(below, _mm256_set1_epi32(255)), 4);
                    total = _mm256_add_epi32(total, _mm256_srlv_epi32(steps, _mm256_srli_epi32(below, 8)));
                }
                totals[j] = sr_wide_total(total);
            }
            _mm256_storeu_si256((__m256i *)logarithms, sr_wide_log2(_mm256_loadu_si256((const __m256i *)totals)));
            for (j = 0; j < some; ++j) {
                const int32_t found = tops[j] + moved + (((int32_t)logarithms[j] - count + 8) >> 4);
                y[r + j] = (int16_t)(found < -32768 ? -32768 : found > 32767 ? 32767 : found);
            }
        }
    }
}
#endif
