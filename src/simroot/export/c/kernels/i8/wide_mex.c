#ifdef SR_WIDE
#define SR_WIDE_TERMS 4096
#ifdef SR_WIDE_512
#define SR_WIDE_LANES 16
#else
#define SR_WIDE_LANES 8
#endif
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

#ifdef SR_WIDE_512
/* 2^20 * 2^(-t / 256), the table's numbers: products of powers of 1 / 16 and of 1 / 256 of a factor of two. */
static inline __m512i sr_wide_power(__m512i t)
{
    const __m512i sixteenths = _mm512_setr_epi32(@SIXTEENTHS@);
    const __m512i steps = _mm512_setr_epi32(@STEPS@);
    const __m512i a = _mm512_permutexvar_epi32(_mm512_srli_epi32(t, 4), sixteenths), b = _mm512_permutexvar_epi32(t, steps);
    const __m512i half = _mm512_set1_epi64(INT64_C(1) << 39);
    const __m512i even = _mm512_add_epi64(_mm512_mul_epu32(a, b), half);
    const __m512i odd = _mm512_add_epi64(_mm512_mul_epu32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(b, 32)), half);
    const __m512i all = _mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 40), _mm512_srli_epi64(odd, 8));
    return _mm512_srlv_epi32(all, _mm512_srli_epi32(t, 8));
}
#endif

/* The largest term of one unit, and the sum of the powers of all below it; there are length of both. */
static inline int32_t sr_wide_unit_sum(const int32_t *numbers, const int32_t *offsets, int length, int64_t *sum)
{
#ifdef SR_WIDE_512
    __m512i top = _mm512_set1_epi32(-(1 << 29)), total = _mm512_setzero_si512();
    int32_t most;
    int c;
    for (c = 0; c < length; c += 16) {
        top = _mm512_max_epi32(top, _mm512_add_epi32(_mm512_loadu_si512(numbers + c), _mm512_loadu_si512(offsets + c)));
    }
    most = _mm512_reduce_max_epi32(top);
    top = _mm512_set1_epi32(most);
    for (c = 0; c < length; c += 16) {
        const __m512i term = _mm512_add_epi32(_mm512_loadu_si512(numbers + c), _mm512_loadu_si512(offsets + c));
        total = _mm512_add_epi32(total, sr_wide_power(_mm512_sub_epi32(top, term)));
    }
    *sum = (uint32_t)_mm512_reduce_add_epi32(total);
#else
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
#endif
    return most;
}

/* The same, eight channels at a time or sixteen, and the logarithms of many units. */
static void sr_mex_wide(const int16_t *x, int pixels, int channels, int units, const int16_t *offsets, int32_t count,
    int32_t moved, int16_t *y)
{
    const int length = (channels + SR_WIDE_LANES - 1) / SR_WIDE_LANES * SR_WIDE_LANES, many = SR_WIDE_SUMS / units;
    int32_t terms[SR_WIDE_TERMS], numbers[SR_WIDE_TERMS], tops[SR_WIDE_SUMS];
    int64_t sums[SR_WIDE_SUMS + 16];
    int pixel, first, some, c, r, k;
    for (r = 0; r < units; ++r) {
        for (c = 0; c < length; ++c) { /* what is added to a full vector adds nothing */
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
