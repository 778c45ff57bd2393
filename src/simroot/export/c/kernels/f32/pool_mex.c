/* Rows [top, bottom) of MEX over windows, with a beta for each channel; positions outside of the grid do not count. */
static void sr_pool_mex(const sr_grid *g, const float *x, const float *beta, int top, int bottom, float *y)
{
@include windows.c
                const float *corner = x + ((start_y + first_y) * g->width + start_x + first_x) * g->channels + c;
                const float sign = beta[c] < 0.0F ? -1.0F : 1.0F;
                float peak = corner[0], sum = 0.0F;
                for (u = 0; u < last_y - first_y; ++u) {
                    for (v = 0; v < last_x - first_x; ++v) {
                        const float one = corner[(u * g->width + v) * g->channels];
                        if (sign * one > sign * peak) {
                            peak = one;
                        }
                    }
                }
                for (u = 0; u < last_y - first_y; ++u) {
                    for (v = 0; v < last_x - first_x; ++v) {
                        const float away = corner[(u * g->width + v) * g->channels] - peak;
                        sum += sr_exp_minus_one(beta[c] * away);
                    }
                }
                y[c] = peak + sr_log_one_plus(sum / (float)count) / beta[c];
            }
            y += g->channels;
        }
    }
}
