#ifdef SR_WIDE
/* Four windows of bytes in 16 bits, their zero subtracted, and behind the numbers of each their squares less 32768. */
static void sr_wide_square(const uint8_t *bytes, int length, int zero, int16_t *to)
{
    int i, k;
    for (i = 0; i < 4; ++i, bytes += length, to += 2 * length) {
        for (k = 0; k < length; ++k) {
            const int value = (int8_t)bytes[k] - zero;
            to[k] = (int16_t)value;
            to[length + k] = (int16_t)(value * value - 32768);
        }
    }
}
#endif
