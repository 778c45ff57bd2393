#ifdef SR_WIDE
/* Bytes in 16 bits, their zero subtracted, and behind them their squares less 32768. */
SR_MAYBE static void sr_wide_square(const uint8_t *bytes, int count, int zero, int16_t *to)
{
    int k;
    for (k = 0; k < count; ++k) {
        const int value = (int8_t)bytes[k] - zero;
        to[k] = (int16_t)value;
        to[count + k] = (int16_t)(value * value - 32768);
    }
    memset(to + 2 * count, 0, 4);
}
#endif
