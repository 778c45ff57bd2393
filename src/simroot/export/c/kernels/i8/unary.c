static void sr_look_up(const int8_t *x, int n, const int8_t *values, int8_t *y)
{
    int i = 0;
#if defined(SR_WIDE) && defined(__AVX512VBMI__)
    const __m512i a = _mm512_loadu_si512(values), b = _mm512_loadu_si512(values + 64);
    const __m512i c = _mm512_loadu_si512(values + 128), d = _mm512_loadu_si512(values + 192);
    for (; i + 64 <= n; i += 64) {
        const __m512i place = _mm512_xor_si512(_mm512_loadu_si512(x + i), _mm512_set1_epi8(-128));
        const __m512i low = _mm512_permutex2var_epi8(a, place, b), high = _mm512_permutex2var_epi8(c, place, d);
        _mm512_storeu_si512(y + i, _mm512_mask_blend_epi8(_mm512_movepi8_mask(place), low, high));
    }
#endif
    for (; i < n; ++i) {
        y[i] = values[x[i] + 128];
    }
}
