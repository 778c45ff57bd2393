#ifdef SR_LANES
/* @WHAT@ of some channels side by side, of which there are no more than the given number. */
static inline void @NAME@_lanes(const sr_grid *g, const int8_t *x, int rows, int pieces, int channels, int8_t *y)
{
    int u, v;
#if defined(SR_FORM_MVE)
    const mve_pred16_t some = vctp8q((uint32_t)channels);
    int8x16_t value = vldrbq_z_s8(x, some);
#elif defined(SR_FORM_WASM)
    v128_t value = wasm_v128_load64_zero(x);
#else
    uint32_t value = sr_word(x);
#endif
    (void)channels;
    for (u = 0; u < rows; ++u) {
        for (v = 0; v < pieces; ++v) {
            const int8_t *const from = x + (u * g->apart_y * g->width + v * g->apart_x) * g->channels;
#if defined(SR_FORM_MVE)
            value = v@WHAT@q_s8(value, vldrbq_z_s8(from, some));
#elif defined(SR_FORM_WASM)
            value = wasm_i8x16_@WHAT@(value, wasm_v128_load64_zero(from));
#else
            const uint32_t other = sr_word(from);
            uint32_t less;
            __asm__("ssub8 %1, @FIRST@, @SECOND@\n\tsel %0, %2, %0" : "+r"(value), "=&r"(less) : "r"(other) : "cc");
#endif
        }
    }
#if defined(SR_FORM_MVE)
    vstrbq_p_s8(y, value, some);
#elif defined(SR_FORM_WASM)
    wasm_v128_store64_lane(y, value, 0);
#else
    memcpy(y, &value, sizeof value);
#endif
}

/* The same of the first channels, as far as whole lanes go; gives how many. */
static inline int @NAME@_first(const sr_grid *g, const int8_t *x, int rows, int pieces, int8_t *y)
{
#ifdef SR_FORM_MVE /* which leaves some of the last lanes out */
    const int last = g->channels;
#else
    const int last = g->channels / SR_LANES * SR_LANES;
#endif
    int c;
    for (c = 0; c < last; c += SR_LANES) {
        @NAME@_lanes(g, x + c, rows, pieces, g->channels - c, y + c);
    }
    return last;
}
#endif
