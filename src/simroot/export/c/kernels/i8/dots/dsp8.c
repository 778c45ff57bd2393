static inline uint32_t sr_first8(const int8_t *w)
{
    uint32_t found;
    __asm__("sxtb16 %0, %1" : "=r"(found) : "r"(sr_word(w)));
    return found;
}

static inline uint32_t sr_second8(const int8_t *w)
{
    uint32_t found;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(found) : "r"(sr_word(w)));
    return found;
}
