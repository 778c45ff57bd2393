/* Sums of each channel of a window over some taps, and its bias: in the processor's form four channels side by side, or eight,
   the last so many again rather than fewer. */
#if defined(SR_FORM_DSP) || defined(SR_FORM_PORTABLE)
#define SR_PLANES 4
#else
#define SR_PLANES 8
#endif
/* A tap is where its number lies behind x, and where its weight lies. */
typedef struct {
    int32_t x, w;
} sr_tap;

SR_APART static void sr_planes(const int8_t *x, const int8_t *w, const sr_tap *taps, const sr_tap *end, int channels, int32_t zero,
    const int32_t *bias, int32_t *sums)
{
    const sr_tap *tap;
    int done = 0, first;
#if defined(SR_FORM_DSP)
    const uint32_t less = ((uint32_t)-zero & 0xFFFFu) | (uint32_t)-zero << 16;
#elif defined(SR_FORM_NEON)
    const int16x8_t zeros = vdupq_n_s16((int16_t)zero);
#elif defined(SR_FORM_WASM)
    const v128_t zeros = wasm_i16x8_splat((int16_t)zero);
#elif defined(SR_FORM_X86)
    const __m128i zeros = _mm_set1_epi16((int16_t)zero), none = _mm_setzero_si128();
#endif
    for (; done < channels && channels >= SR_PLANES; done = first + SR_PLANES) {
        first = done + SR_PLANES > channels ? channels - SR_PLANES : done;
#if defined(SR_FORM_DSP) || defined(SR_FORM_PORTABLE)
@include i8/planes_four.c
#else
@include i8/planes_eight.c
#endif
    }
    for (; done < channels; ++done) {
        int32_t sum = bias[done];
        for (tap = taps; tap != end; ++tap) {
            sum += (x[tap->x + done] - zero) * w[tap->w + done];
        }
        sums[done] = sum;
    }
}
