        const int32_t *const start = bias + first;
        int32_t *const to = sums + first;
#if defined(SR_FORM_MVE)
        int32x4x2_t sum = vld2q_s32(start); /* of even channels, and of odd ones */
#elif defined(SR_FORM_NEON)
        int32x4_t a = vld1q_s32(start), b = vld1q_s32(start + 4);
#elif defined(SR_FORM_WASM)
        v128_t a = wasm_v128_load(start), b = wasm_v128_load(start + 4);
#elif defined(SR_FORM_X86)
        __m128i a = _mm_loadu_si128((const __m128i *)start), b = _mm_loadu_si128((const __m128i *)(start + 4));
#endif
        for (tap = taps; tap != end; ++tap) {
            const int8_t *const from = x + first + tap->x, *const v = w + first + tap->w;
#if defined(SR_FORM_MVE)
            const int16x8_t p = vsubq_n_s16(vldrbq_s16(from), (int16_t)zero), q = vldrbq_s16(v);
            sum.val[0] = vaddq_s32(sum.val[0], vmullbq_int_s16(p, q));
            sum.val[1] = vaddq_s32(sum.val[1], vmulltq_int_s16(p, q));
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
#if defined(SR_FORM_MVE)
        vst2q_s32(to, sum);
#elif defined(SR_FORM_NEON)
        vst1q_s32(to, a);
        vst1q_s32(to + 4, b);
#elif defined(SR_FORM_WASM)
        wasm_v128_store(to, a);
        wasm_v128_store(to + 4, b);
#elif defined(SR_FORM_X86)
        _mm_storeu_si128((__m128i *)to, a);
        _mm_storeu_si128((__m128i *)(to + 4), b);
#endif
