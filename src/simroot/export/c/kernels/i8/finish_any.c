/* Results of sums: rescaled, of any shifts. */
static void sr_finish_@NAME@(const int32_t *sums, int count, const int32_t *factor, const uint8_t *shift, @ZEROS@, int32_t low, int32_t high,
    @OUTPUT@ *y)
{
    int k;
    for (k = 0; k < count; ++k) {
        y[k] = (@OUTPUT@)sr_rescale(sums[k], factor[k], shift[k], @ZERO@, low, high);
    }
}
