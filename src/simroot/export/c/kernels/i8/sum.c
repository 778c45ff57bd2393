/* b repeats after every period numbers. */
static void sr_weigh(const int8_t *a, const int8_t *b, int n, int period, int32_t zero_a, int32_t zero_b, int32_t factor_a,
    int32_t factor_b, int shift, int32_t zero, int32_t low, int32_t high, int8_t *y)
{
    const int places = shift > 32 ? 31 : shift - 1; /* of 31 bits nothing is left, but a sign */
    int i, j;
    for (i = 0; i < n; i += period) {
        j = 0;
#ifdef SR_FORM_MVE
        for (; j < period; j += 4) {
            const mve_pred16_t some = vctp32q((uint32_t)(period - j));
            const int32x4_t one = vmulq_n_s32(vsubq_n_s32(vldrbq_z_s32(a + i + j, some), zero_a), factor_a);
            const int32x4_t two = vmulq_n_s32(vsubq_n_s32(vldrbq_z_s32(b + j, some), zero_b), factor_b);
            const int32x4_t moved = vrshlq_s32(vaddq_s32(one, two), vdupq_n_s32(-places - 1));
            const int32x4_t found = vaddq_n_s32(moved, zero);
            vstrbq_p_s32(y + i + j, vminq_s32(vmaxq_s32(found, vdupq_n_s32(low)), vdupq_n_s32(high)), some);
        }
#endif
        for (; j < period; ++j) {
            const int32_t sum = (a[i + j] - zero_a) * factor_a + (b[j] - zero_b) * factor_b;
            const int32_t found = (((sum >> places) + 1) >> 1) + zero;
            const int32_t least = found < low ? low : found;
            y[i + j] = (int8_t)(least > high ? high : least);
        }
    }
}
