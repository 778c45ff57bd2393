/* Rows [top, bottom) of MEX over windows, with a beta for each channel; positions outside of the grid do not count. */
static void sr_pool_mex(const sr_grid *g, const float *x, const float *beta, int top, int bottom, float *y)
{
    int row, column, c, u, v;
    for (row = top; row < bottom; ++row) {
        const int start_y = row * g->step_y - g->pad_y;
        int first_y, last_y;
        sr_inside(start_y, g->apart_y, g->kernel_y, g->height, &first_y, &last_y);
        for (column = 0; column < g->out_width; ++column) {
            const int start_x = column * g->step_x - g->pad_x;
            int first_x, last_x, count;
            sr_inside(start_x, g->apart_x, g->kernel_x, g->width, &first_x, &last_x);
            count = (last_y - first_y) * (last_x - first_x);
            for (c = 0; c < g->channels; ++c) {
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
