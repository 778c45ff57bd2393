static inline uint32_t sr_first16(const int16_t *w)
{
    return sr_word(w);
}

static inline uint32_t sr_second16(const int16_t *w)
{
    return sr_word(w + 2);
}
