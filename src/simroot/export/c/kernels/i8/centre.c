/* A window of pixels, less the centre of each, for weights of 8 bits. */
SR_MAYBE static void sr_subtract(const uint8_t *from, const uint8_t *centre, int length, int16_t *windows, int which)
{
    int16_t *to = windows + SR_SLOT8(length, which, 0);
    int k;
    for (k = 0; k < length; k += 4, to += SR_SLOT8(length, 0, 4)) {
        to[SR_SLOT8(length, 0, 0)] = (int16_t)(from[k] - centre[k]);
        to[SR_SLOT8(length, 0, 1)] = (int16_t)(from[k + 1] - centre[k + 1]);
        to[SR_SLOT8(length, 0, 2)] = (int16_t)(from[k + 2] - centre[k + 2]);
        to[SR_SLOT8(length, 0, 3)] = (int16_t)(from[k + 3] - centre[k + 3]);
    }
}
