#ifdef SR_WIDE
/* The same of as many numbers as are whole periods of eight and of the channels; gives how many. */
static int @NAME@_wide(const @INPUT@ *x, int n, int channels, const int32_t *multipliers, const uint8_t *shifts,
    const int32_t *bias, int32_t zero, int32_t low, int32_t high, @OUTPUT@ *y)
{
    const __m256i less = _mm256_set1_epi32(zero);
    int period = channels, first, i, k;
    while (period % 8 != 0) {
        period += channels;
    }
    if (!sr_wide_fits(shifts, bias, channels, 32 - SR_WIDE_SPARE)) {
        return 0;
    }
    for (first = 0; first < period && period <= n; first += 8) {
        int32_t multiplier[8], more[8], add[8];
        uint8_t shift[8];
        __m256i up;
        sr_wide_scale scale;
        for (k = 0; k < 8; ++k) {
            const int c = (first + k) % channels;
            more[k] = shifts[c] < 32 ? 32 - shifts[c] : 0; /* numbers are moved where shifts are too small */
            shift[k] = (uint8_t)(shifts[c] + more[k]);
            multiplier[k] = multipliers[c];
            add[k] = bias[c];
        }
        up = sr_wide_some(more, 8);
        scale = sr_wide_prepare(_mm256_setzero_si256(), sr_wide_some(multiplier, 8), shift, sr_wide_some(add, 8), 8, low, high);
        for (i = first; i < n / period * period; i += 4 * period) {
            const int some = (n - i + first) / period;
            __m256i values[4];
            @OUTPUT@ last[32];
            for (k = 0; k < 4; ++k) {
                const @INPUT@ *from = x + i + (k < some ? k : 0) * period;
                values[k] = _mm256_sllv_epi32(_mm256_sub_epi32(sr_wide_load_@READ@(from), less), up);
            }
            if (some >= 4) {
                sr_wide_store_@KIND@(values, &scale, 8, period, y + i);
                continue;
            }
            sr_wide_store_@KIND@(values, &scale, 8, 8, last);
            for (k = 0; k < some; ++k) {
                memcpy(y + i + k * period, last + 8 * k, 8 * sizeof *last);
            }
        }
    }
    return n / period * period;
}
#endif

static void @NAME@(const @INPUT@ *x, int pixels, int channels, const int32_t *multipliers, const uint8_t *shifts,
    const int32_t *bias, int32_t zero, int32_t low, int32_t high, @OUTPUT@ *y)
{
    int i = 0, c;
#ifdef SR_WIDE
    i = @NAME@_wide(x, pixels * channels, channels, multipliers, shifts, bias, zero, low, high, y);
#endif
    for (; i < pixels * channels; i += channels) {
        for (c = 0; c < channels; ++c) {
            const int32_t value = x[i + c] - zero;
            y[i + c] = (@OUTPUT@)sr_rescale(value, multipliers[c], shifts[c], bias[c], low, high);
        }
    }
}
