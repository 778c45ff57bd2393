/* Bytes, their zero subtracted, as numbers of a window for weights of 8 bits, from a multiple of four on. */
SR_MAYBE static void sr_widen(const uint8_t *from, int count, int32_t zero, int16_t *to)
{
    int k;
#ifdef SR_FORM_DSP
    const uint32_t less = ((uint32_t)-zero & 0xFFFFu) | (uint32_t)-zero << 16;
    for (k = 0; k < count; k += 4) {
        const uint32_t bytes = sr_word(from + k);
        uint32_t words[2];
        __asm__("sxtab16 %0, %1, %2" : "=r"(words[0]) : "r"(less), "r"(bytes));
        __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(words[1]) : "r"(less), "r"(bytes));
        memcpy(to + 2 * k, words, sizeof words);
    }
#else
    for (k = 0; k < count; ++k) {
        to[k] = (int16_t)((int8_t)from[k] - zero);
    }
#endif
}
