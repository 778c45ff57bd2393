/* Rows [top, bottom) of MEX over windows. Of each channel: the sign of beta, the factor from a number to a power of two
   in units of 1 / 4096, and the factor back. Positions outside of the grid do not count. */
static void @NAME@(const sr_grid *g, const @TYPE@ *x, const int8_t *signs, const int32_t *factors, const uint8_t *shifts,
    const int32_t *factors_back, const uint8_t *shifts_back, int top, int bottom, @TYPE@ *y)
{
@include windows.c
                const @TYPE@ *corner = x + ((start_y + first_y) * g->width + start_x + first_x) * g->channels + c;
                const int32_t sign = signs[c];
                int32_t peak = corner[0], below, found;
                uint32_t sum = 0;
                for (u = 0; u < last_y - first_y; ++u) {
                    for (v = 0; v < last_x - first_x; ++v) {
                        const int32_t one = corner[(u * g->width + v) * g->channels];
                        if (sign * one > sign * peak) {
                            peak = one;
                        }
                    }
                }
                for (u = 0; u < last_y - first_y; ++u) {
                    for (v = 0; v < last_x - first_x; ++v) {
                        below = sign * (peak - corner[(u * g->width + v) * g->channels]);
                        sum += sr_exp2((uint32_t)sr_rescale(below, factors[c], shifts[c], 0, 0, 1 << 20));
                    }
                }
                below = sr_log2(sum) - sr_log2((uint32_t)count << 20);
                found = peak + sign * sr_rescale(below, factors_back[c], shifts_back[c], 0, -65535, 0);
                y[c] = (@TYPE@)(found < @LOW@ ? @LOW@ : found > @HIGH@ ? @HIGH@ : found);
            }
            y += g->channels;
        }
    }
}
