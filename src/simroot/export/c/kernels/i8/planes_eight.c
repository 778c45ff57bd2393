SR_APART static void sr_planes(const int8_t *x, int row, int tap, int rows, int pieces, const int8_t *w, int filter_row,
    int channels, int32_t zero, int32_t *sums)
{
    int y, piece;
#if defined(SR_FORM_MVE)
    int32x4_t a = vdupq_n_s32(0), b = a;
#elif defined(SR_FORM_NEON)
    const int16x8_t zeros = vdupq_n_s16((int16_t)zero);
    int32x4_t a = vdupq_n_s32(0), b = a;
#elif defined(SR_FORM_WASM)
    const v128_t zeros = wasm_i16x8_splat((int16_t)zero);
    v128_t a = wasm_i32x4_splat(0), b = a;
#elif defined(SR_FORM_X86)
    const __m128i zeros = _mm_set1_epi16((int16_t)zero), none = _mm_setzero_si128();
    __m128i a = none, b = none;
#endif
    for (y = 0; y < rows; ++y) {
        const int8_t *from = x + y * row, *v = w + y * filter_row;
        for (piece = 0; piece < pieces; ++piece, from += tap, v += channels) {
#if defined(SR_FORM_MVE)
            a = vaddq_s32(a, vmulq_s32(vsubq_n_s32(vldrbq_s32(from), zero), vldrbq_s32(v)));
            b = vaddq_s32(b, vmulq_s32(vsubq_n_s32(vldrbq_s32(from + 4), zero), vldrbq_s32(v + 4)));
#elif defined(SR_FORM_NEON)
            const int16x8_t p = vsubq_s16(vmovl_s8(vld1_s8(from)), zeros), q = vmovl_s8(vld1_s8(v));
            a = vmlal_s16(a, vget_low_s16(p), vget_low_s16(q));
            b = vmlal_high_s16(b, p, q);
#elif defined(SR_FORM_WASM)
            const v128_t p = wasm_i16x8_sub(wasm_i16x8_load8x8(from), zeros), q = wasm_i16x8_load8x8(v);
            a = wasm_i32x4_add(a, wasm_i32x4_extmul_low_i16x8(p, q));
            b = wasm_i32x4_add(b, wasm_i32x4_extmul_high_i16x8(p, q));
#elif defined(SR_FORM_X86)
            const __m128i bytes = _mm_loadl_epi64((const __m128i *)from), weights = _mm_loadl_epi64((const __m128i *)v);
            const __m128i p = _mm_sub_epi16(_mm_srai_epi16(_mm_unpacklo_epi8(none, bytes), 8), zeros);
            const __m128i q = _mm_srai_epi16(_mm_unpacklo_epi8(none, weights), 8);
            const __m128i low = _mm_mullo_epi16(p, q), high = _mm_mulhi_epi16(p, q);
            a = _mm_add_epi32(a, _mm_unpacklo_epi16(low, high));
            b = _mm_add_epi32(b, _mm_unpackhi_epi16(low, high));
#endif
        }
    }
#if defined(SR_FORM_MVE)
    vstrwq_s32(sums, a);
    vstrwq_s32(sums + 4, b);
#elif defined(SR_FORM_NEON)
    vst1q_s32(sums, a);
    vst1q_s32(sums + 4, b);
#elif defined(SR_FORM_WASM)
    wasm_v128_store(sums, a);
    wasm_v128_store(sums + 4, b);
#elif defined(SR_FORM_X86)
    _mm_storeu_si128((__m128i *)sums, a);
    _mm_storeu_si128((__m128i *)(sums + 4), b);
#endif
}
