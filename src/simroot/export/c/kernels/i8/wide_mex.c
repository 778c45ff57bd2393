#ifdef SR_WIDE
#define SR_WIDE_TERMS 4096
#define SR_WIDE_SUMS 256

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

/* sr_log2 of sixteen numbers of 32 bits: four times four beside each other, in 64 bits. */
static inline void sr_wide_log2(int64_t *numbers)
{
    const __m256i one = _mm256_set1_epi64x(1), top = _mm256_set1_epi64x(31);
    __m256i value[4], found[4];
    int bit, i;
    for (i = 0; i < 4; ++i) {
        value[i] = _mm256_loadu_si256((const __m256i *)(numbers + 4 * i));
        found[i] = top;
    }
    for (bit = 16; bit > 0; bit /= 2) { /* the highest bit goes to the top */
        for (i = 0; i < 4; ++i) {
            const __m256i few = _mm256_cmpeq_epi64(_mm256_srli_epi64(value[i], 32 - bit), _mm256_setzero_si256());
            const __m256i places = _mm256_and_si256(few, _mm256_set1_epi64x(bit));
            value[i] = _mm256_sllv_epi64(value[i], places);
            found[i] = _mm256_sub_epi64(found[i], places);
        }
    }
    for (bit = 0; bit < 12; ++bit) {
        for (i = 0; i < 4; ++i) {
            const __m256i square = _mm256_mul_epu32(value[i], value[i]), over = _mm256_srli_epi64(square, 63);
            value[i] = _mm256_srlv_epi64(square, _mm256_add_epi64(top, over));
            found[i] = _mm256_or_si256(_mm256_slli_epi64(found[i], 1), _mm256_and_si256(over, one));
        }
    }
    for (i = 0; i < 4; ++i) {
        _mm256_storeu_si256((__m256i *)(numbers + 4 * i), found[i]);
    }
}

/* The largest term of one unit, and the sum of the powers of all below it; there are length of both. */
static inline int32_t sr_wide_unit_sum(const int32_t *numbers, const int32_t *offsets, int length, int64_t *sum)
{
    __m256i top = _mm256_set1_epi32(-(1 << 29)), total = _mm256_setzero_si256();
    int32_t most;
    int c;
    for (c = 0; c < length; c += 8) {
        top = _mm256_max_epi32(top, _mm256_add_epi32(_mm256_loadu_si256((const __m256i *)(numbers + c)),
            _mm256_loadu_si256((const __m256i *)(offsets + c))));
    }
    most = sr_wide_most(top);
    top = _mm256_set1_epi32(most);
    for (c = 0; c < length; c += 8) {
        const __m256i term = _mm256_add_epi32(_mm256_loadu_si256((const __m256i *)(numbers + c)),
            _mm256_loadu_si256((const __m256i *)(offsets + c)));
        const __m256i below = _mm256_sub_epi32(top, term);
        const __m256i steps = _mm256_i32gather_epi32((const int *)(const void *)sr_exp2_table,
            _mm256_and_si256(below, _mm256_set1_epi32(255)), 4);
        total = _mm256_add_epi32(total, _mm256_srlv_epi32(steps, _mm256_srli_epi32(below, 8)));
    }
    *sum = sr_wide_total(total);
    return most;
}

/* The same, eight channels at a time, and the logarithms of many units. */
static void sr_mex_wide(const int16_t *x, int pixels, int channels, int units, const int16_t *offsets, int32_t count,
    int32_t moved, int16_t *y)
{
    const int length = (channels + 7) / 8 * 8, many = SR_WIDE_SUMS / units;
    int32_t terms[SR_WIDE_TERMS], numbers[SR_WIDE_TERMS], tops[SR_WIDE_SUMS];
    int64_t sums[SR_WIDE_SUMS + 16];
    int pixel, first, some, c, r, k;
    for (r = 0; r < units; ++r) {
        for (c = 0; c < length; ++c) { /* what is added to a full eight adds nothing */
            terms[r * length + c] = c < channels ? offsets[r * channels + c] : -(1 << 29);
        }
    }
    memset(numbers, 0, sizeof *numbers * (size_t)length);
    for (first = 0; first < pixels; first += some, y += some * units) {
        some = pixels - first < many ? pixels - first : many;
        for (pixel = 0; pixel < some; ++pixel, x += channels) {
            for (c = 0; c < channels; ++c) {
                numbers[c] = x[c];
            }
            for (r = 0; r < units; ++r) {
                k = pixel * units + r;
                tops[k] = sr_wide_unit_sum(numbers, terms + r * length, length, sums + k);
            }
        }
        for (k = 0; k < 16; ++k) {
            sums[some * units + k] = 1;
        }
        for (k = 0; k < some * units; k += 16) {
            sr_wide_log2(sums + k);
        }
        for (k = 0; k < some * units; ++k) {
            const int32_t found = tops[k] + moved + (((int32_t)sums[k] - count + 8) >> 4);
            y[k] = (int16_t)(found < -32768 ? -32768 : found > 32767 ? 32767 : found);
        }
    }
}
#endif
