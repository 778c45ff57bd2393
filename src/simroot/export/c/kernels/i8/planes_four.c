        int32_t a = 0, b = 0, c = 0, d = 0;
        for (tap = taps; tap != end; ++tap) {
#ifdef SR_FORM_DSP
            const uint32_t bytes = sr_word(x + first + tap->x), weights = sr_word(w + first + tap->w);
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
            const int8_t *const from = x + first + tap->x, *const v = w + first + tap->w;
            a += (from[0] - zero) * v[0];
            b += (from[1] - zero) * v[1];
            c += (from[2] - zero) * v[2];
            d += (from[3] - zero) * v[3];
#endif
        }
        sums[first] = bias[first] + a;
        sums[first + 1] = bias[first + 1] + b;
        sums[first + 2] = bias[first + 2] + c;
        sums[first + 3] = bias[first + 3] + d;
