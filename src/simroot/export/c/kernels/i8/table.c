/* The power of a difference: a table of 256 steps, straight lines between. */
static int32_t sr_table(int32_t difference, const uint16_t *power, int coarse)
{
    const int32_t d = difference < 0 ? -difference : difference;
    const uint16_t *p = power + (d >> coarse);
    return p[0] + ((p[1] - p[0]) * (d & ((1 << coarse) - 1)) >> coarse);
}
