/* Bytes without sign, those bits of each turned over that flip has, as numbers of a window for weights of 8 bits, from a
   multiple of four on. */
SR_MAYBE static void sr_widen(const uint8_t *from, int count, int flip, int16_t *to)
{
    int k;
#if defined(SR_FORM_DSP)
    const uint32_t flips = (uint32_t)flip * 0x01010101u;
    for (k = 0; k < count; k += 4) {
        const uint32_t bytes = sr_word(from + k) ^ flips;
        uint32_t words[2];
        __asm__("uxtb16 %0, %1" : "=r"(words[0]) : "r"(bytes));
        __asm__("uxtb16 %0, %1, ror #8" : "=r"(words[1]) : "r"(bytes));
        memcpy(to + 2 * k, words, sizeof words);
    }
#elif defined(SR_FORM_MVE)
    for (k = 0; k < count; k += 8) {
        const mve_pred16_t some = vctp16q((uint32_t)(count - k));
        vstrhq_p_u16((uint16_t *)to + k, veorq_u16(vldrbq_z_u16(from + k, some), vdupq_n_u16((uint16_t)flip)), some);
    }
#else
    k = 0;
#ifdef SR_FORM_WASM
    for (; k + 8 <= count; k += 8) {
        wasm_v128_store(to + k, wasm_v128_xor(wasm_u16x8_load8x8(from + k), wasm_i16x8_splat((int16_t)flip)));
    }
#endif
    for (; k < count; ++k) {
        to[k] = (int16_t)(from[k] ^ flip);
    }
#endif
}
