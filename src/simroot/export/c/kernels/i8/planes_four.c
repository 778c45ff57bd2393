SR_APART static void sr_planes(const int8_t *x, int row, int tap, int rows, int pieces, const int8_t *w, int filter_row,
    int channels, int32_t zero, int32_t *sums)
{
    int y, piece, first;
#ifdef SR_FORM_DSP
    const uint32_t less = ((uint32_t)-zero & 0xFFFFu) | (uint32_t)-zero << 16;
#endif
    for (first = 0; first < 8; first += 4) {
        int32_t a = 0, b = 0, c = 0, d = 0;
        for (y = 0; y < rows; ++y) {
            const int8_t *from = x + y * row + first, *v = w + y * filter_row + first;
            for (piece = 0; piece < pieces; ++piece, from += tap, v += channels) {
#ifdef SR_FORM_DSP
                const uint32_t bytes = sr_word(from), weights = sr_word(v);
                uint32_t even, odd, f, g;
                __asm__("sxtab16 %0, %1, %2" : "=r"(even) : "r"(less), "r"(bytes));
                __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(odd) : "r"(less), "r"(bytes));
                __asm__("sxtb16 %0, %1" : "=r"(f) : "r"(weights));
                __asm__("sxtb16 %0, %1, ror #8" : "=r"(g) : "r"(weights));
                __asm__("smlabb %0, %1, %2, %0" : "+r"(a) : "r"(even), "r"(f));
                __asm__("smlabb %0, %1, %2, %0" : "+r"(b) : "r"(odd), "r"(g));
                __asm__("smlatt %0, %1, %2, %0" : "+r"(c) : "r"(even), "r"(f));
                __asm__("smlatt %0, %1, %2, %0" : "+r"(d) : "r"(odd), "r"(g));
#else
                a += (from[0] - zero) * v[0];
                b += (from[1] - zero) * v[1];
                c += (from[2] - zero) * v[2];
                d += (from[3] - zero) * v[3];
#endif
            }
        }
        sums[first] = a;
        sums[first + 1] = b;
        sums[first + 2] = c;
        sums[first + 3] = d;
    }
}
