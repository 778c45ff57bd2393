/* Numbers of a window of bytes, their zero subtracted, and behind them their squares less 32768, for weights of 16 bits. */
SR_MAYBE static void sr_square(const uint8_t *from, int length, int32_t zero, int16_t *windows, int which)
{
    const int half = length / 2;
    int k;
    for (k = 0; k < half; ++k) {
        const int32_t value = (int8_t)from[k] - zero;
        windows[SR_SLOT16(length, which, k)] = (int16_t)value;
        windows[SR_SLOT16(length, which, half + k)] = (int16_t)(value * value - 32768);
    }
}
