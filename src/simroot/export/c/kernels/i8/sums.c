/* Adds to the sums of two windows x over all filters, whose numbers begin so many one behind the other; the sums of a window have
   room for an even number. */
SR_APART static void sr_sums_@KIND@(const int16_t *x, int length, const @WEIGHT@ *w@PARAMETERS@, int all, int units, int32_t *sums)
{
    const int even = units + units % 2;
    int left;
    for (left = units; left > 0; left -= 2, sums += 2) {
        const int next = left > 1 ? all : 0;
        int32_t four[4];
        four[0] = sums[0];
        four[1] = sums[1];
        four[2] = sums[even];
        four[3] = sums[even + 1];
        @PAIR@;
        sums[0] = four[0];
        sums[1] = four[1];
        sums[even] = four[2];
        sums[even + 1] = four[3];
        w += 2 * all;@STEP@
    }
}
