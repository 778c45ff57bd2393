/* b repeats after every period numbers. */
static void sr_multiply(const int8_t *a, const int8_t *b, int n, int period, int32_t zero_a, int32_t zero_b,
    int32_t multiplier, int shift, int32_t zero, int32_t low, int32_t high, int8_t *y)
{
    int first, count, i, j;
    for (first = 0; first < period; first += count) {
        i = 0;
        count = period;
#ifdef SR_WIDE
        if (n > period && shift >= 32) {
            const __m256i less = _mm256_set1_epi32(zero_a);
            const uint8_t places = (uint8_t)shift, shifts[8] = {places, places, places, places, places, places, places, places};
            const sr_wide_scale scale = sr_wide_prepare(_mm256_setzero_si256(), _mm256_set1_epi32(multiplier), shifts,
                _mm256_set1_epi32(zero), 8, low, high);
            int32_t factors[8] = {0};
            count = period - first < 8 ? period - first : 8;
            for (j = 0; j < count; ++j) {
                factors[j] = b[first + j] - zero_b;
            }
            for (; i + 3 * period + first + 8 <= n; i += 4 * period) {
                const __m256i factor = _mm256_loadu_si256((const __m256i *)factors);
                __m256i values[4];
                for (j = 0; j < 4; ++j) {
                    const __m256i value = _mm256_sub_epi32(sr_wide_load_int8(a + i + j * period + first), less);
                    values[j] = _mm256_mullo_epi32(value, factor);
                }
                sr_wide_store_int8(values, &scale, count, period, y + i + first);
            }
        }
#endif
        for (; i < n; i += period) {
            for (j = first; j < first + count; ++j) {
                const int32_t product = (a[i + j] - zero_a) * (b[j] - zero_b);
                y[i + j] = (int8_t)sr_rescale(product, multiplier, shift, zero, low, high);
            }
        }
    }
}
