@TABLES@
/* Numbers of float32 from sign and significand, three bytes each, and exponents of four bits; others stand apart. */
static void sr_unpack(void)
{
    const uint8_t *from = sr_packed;
    const uint32_t *apart = sr_apart;
    int k;
    for (k = 0; k < @COUNT@; ++k, from += 3) {
        const uint32_t place = (uint32_t)(sr_exponents[k / 2] >> k % 2 * 4) & 15u, high = from[2];
        uint32_t bits = from[0] | (uint32_t)from[1] << 8 | (high & 127u) << 16 | high >> 7 << 31 | (place + @BELOW@u) << 23;
        if (place == 0) {
            bits = *apart++;
        }
        memcpy(@PREFIX@_numbers + k, &bits, sizeof bits);
    }
}
