@include i8/wide_mex.c
/* MEX units over the channels of each pixel, in units of 1 / 256 of a factor of two. */
static void sr_mex(const int16_t *x, int pixels, int channels, int units, const int16_t *offsets, int32_t count, int32_t moved,
    int16_t *y)
{
    int pixel, c, r;
#ifdef SR_WIDE
    if (units <= SR_WIDE_SUMS && units * (channels + SR_WIDE_LANES) <= SR_WIDE_TERMS) {
        sr_mex_wide(x, pixels, channels, units, offsets, count, moved, y);
        return;
    }
#endif
    for (pixel = 0; pixel < pixels; ++pixel) {
        for (r = 0; r < units; ++r) {
            const int16_t *o = offsets + r * channels;
            int32_t top = x[0] + o[0], found;
            uint32_t sum = 0;
#ifdef SR_FORM_MVE
            for (c = 0; c < channels; c += 4) {
                const mve_pred16_t some = vctp32q((uint32_t)(channels - c));
                top = vmaxvq_p_s32(top, vaddq_s32(vldrhq_z_s32(x + c, some), vldrhq_z_s32(o + c, some)), some);
            }
            for (c = 0; c < channels; c += 4) {
                const mve_pred16_t some = vctp32q((uint32_t)(channels - c));
                const int32x4_t term = vaddq_s32(vldrhq_z_s32(x + c, some), vldrhq_z_s32(o + c, some));
                const uint32x4_t below = vreinterpretq_u32_s32(vsubq_s32(vdupq_n_s32(top), term));
                const uint32x4_t steps = vandq_u32(below, vdupq_n_u32(255));
                const uint32x4_t value = vldrwq_gather_shifted_offset_z_u32(sr_exp2_table, steps, some);
                const int32x4_t places = vnegq_s32(vreinterpretq_s32_u32(vshrq_n_u32(below, 8)));
                sum = vaddvaq_p_u32(sum, vshlq_u32(value, places), some);
            }
#else
            for (c = 1; c < channels; ++c) {
                if (x[c] + o[c] > top) {
                    top = x[c] + o[c];
                }
            }
            for (c = 0; c < channels; ++c) {
                sum += sr_exp2((uint32_t)(top - x[c] - o[c]) << 4);
            }
#endif
            found = top + moved + ((sr_log2(sum) - count + 8) >> 4);
            y[r] = (int16_t)(found < -32768 ? -32768 : found > 32767 ? 32767 : found);
        }
        x += channels;
        y += units;
    }
}
