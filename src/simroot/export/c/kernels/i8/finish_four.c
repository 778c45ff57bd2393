#if defined(SR_FORM_MVE)
    for (; k < count; k += 4) {
        const mve_pred16_t some = vctp32q((uint32_t)(count - k));
        const int32x4_t upper = vmulhq_s32(vldrwq_z_s32(sums + k, some), vldrwq_z_s32(factor + k, some));
        const int32x4_t places = vsubq_s32(vdupq_n_s32(32), vreinterpretq_s32_u32(vldrbq_z_u32(shift + k, some)));
        const int32x4_t found = vaddq_s32(vrshlq_s32(upper, places), @MVEZERO@);
        vstr@SIZE@q_p_s32(y + k, vminq_s32(vmaxq_s32(found, vdupq_n_s32(low)), vdupq_n_s32(high)), some);
    }
#elif defined(SR_FORM_NEON)
    for (; k + 4 <= count; k += 4) {
        const int32x4_t value = vld1q_s32(sums + k), multiplier = vld1q_s32(factor + k);
        const int32x4_t less = vreinterpretq_s32_s64(vmull_s32(vget_low_s32(value), vget_low_s32(multiplier)));
        const int32x4_t upper = vuzp2q_s32(less, vreinterpretq_s32_s64(vmull_high_s32(value, multiplier)));
        const int32x4_t shifts = {shift[k], shift[k + 1], shift[k + 2], shift[k + 3]};
        const int32x4_t found = vaddq_s32(vrshlq_s32(upper, vsubq_s32(vdupq_n_s32(32), shifts)), @NEONZERO@);
        const int16x4_t half = vqmovn_s32(vminq_s32(vmaxq_s32(found, vdupq_n_s32(low)), vdupq_n_s32(high)));
        const int16x8_t both = vcombine_s16(half, half);
        @NEONSTORE@;
    }
#elif defined(SR_FORM_WASM) /* has no shift by numbers that differ: a product's upper half, with a power of two */
    for (; k + 4 <= count; k += 4) {
        const v128_t value = wasm_v128_load(sums + k), multiplier = wasm_v128_load(factor + k);
        const v128_t low2 = wasm_i64x2_extmul_low_i32x4(value, multiplier), high2 = wasm_i64x2_extmul_high_i32x4(value, multiplier);
        const v128_t upper = wasm_i32x4_shuffle(low2, high2, 1, 3, 5, 7);
        const v128_t shifts = wasm_u32x4_extend_low_u16x8(wasm_u16x8_extend_low_u8x16(wasm_v128_load32_zero(shift + k)));
        const v128_t exponent = wasm_i32x4_shl(wasm_i32x4_sub(wasm_i32x4_splat(127 + 64), shifts), 23);
        const v128_t power = wasm_i32x4_trunc_sat_f32x4(exponent), half = wasm_i64x2_splat(INT64_C(1) << 31);
        const v128_t first = wasm_i64x2_add(wasm_i64x2_extmul_low_i32x4(upper, power), half);
        const v128_t second = wasm_i64x2_add(wasm_i64x2_extmul_high_i32x4(upper, power), half);
        const v128_t found = wasm_i32x4_add(wasm_i32x4_shuffle(first, second, 1, 3, 5, 7), @WASMZERO@);
        const v128_t within = wasm_i32x4_min(wasm_i32x4_max(found, wasm_i32x4_splat(low)), wasm_i32x4_splat(high));
        const v128_t narrow = wasm_i16x8_narrow_i32x4(within, within);
        @WASMSTORE@;
    }
#endif
