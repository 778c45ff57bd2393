/* A window of bytes, their zero subtracted, in 1 / 2^fine of their steps. */
static void sr_refine(const uint8_t *from, int length, int32_t zero, int fine, int16_t *to)
{
    int k;
    for (k = 0; k < length; ++k) {
        to[k] = (int16_t)(((int8_t)from[k] - zero) * (1 << fine));
    }
}
