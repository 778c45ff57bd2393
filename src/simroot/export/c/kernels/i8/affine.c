static void @NAME@(const @INPUT@ *x, int pixels, int channels, const int32_t *multipliers, const uint8_t *shifts,
    const int32_t *bias, int32_t zero, int32_t low, int32_t high, @OUTPUT@ *y)
{
    int first, count, pixel, c;
    for (first = 0; first < channels; first += count) {
        pixel = 0;
        count = channels;
#ifdef SR_WIDE
        count = channels - first < 8 ? channels - first : 8;
        if (sr_wide_fits(shifts + first, bias + first, count)) {
            const __m256i less = _mm256_set1_epi32(zero);
            const sr_wide_scale scale = sr_wide_prepare(_mm256_setzero_si256(), sr_wide_some(multipliers + first, count),
                shifts + first, sr_wide_some(bias + first, count), count, low, high);
            for (; (pixel + 3) * channels + first + 8 <= pixels * channels; pixel += 4) {
                const @INPUT@ *from = x + pixel * channels + first;
                __m256i values[4];
                for (c = 0; c < 4; ++c) {
                    values[c] = _mm256_sub_epi32(sr_wide_load_@READ@(from + c * channels), less);
                }
                sr_wide_store_@KIND@(values, &scale, count, channels, y + pixel * channels + first);
            }
        }
#endif
        for (; pixel < pixels; ++pixel) {
            for (c = first; c < first + count; ++c) {
                const int32_t value = x[pixel * channels + c] - zero;
                y[pixel * channels + c] = (@OUTPUT@)sr_rescale(value, multipliers[c], shifts[c], bias[c], low, high);
            }
        }
    }
}
