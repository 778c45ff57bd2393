/* Results of sums: each moved by its shift, which is more than 32, rounded half up, plus its zero, within limits. */
SR_APART static void sr_finish_@NAME@(const int32_t *sums, int count, const int32_t *factor, const uint8_t *shift, @ZEROS@, int32_t low,
    int32_t high, @OUTPUT@ *y)
{
    int k = 0;
@include i8/finish_four.c
#if defined(SR_FORM_DSP)
    for (; k < count && low == -(1 << (@BITS@ - 1)) && high == (1 << (@BITS@ - 1)) - 1; ++k) {
        int32_t found = sr_moved(sums[k], factor[k], shift[k]) + @ZERO@;
        __asm__("ssat %0, #@BITS@, %0" : "+r"(found));
        y[k] = (@OUTPUT@)found;
    }
#endif
    for (; k < count; ++k) {
        const int32_t found = sr_moved(sums[k], factor[k], shift[k]) + @ZERO@;
        const int32_t least = found < low ? low : found;
        y[k] = (@OUTPUT@)(least > high ? high : least);
    }
}
