#if SR_PIXELS > 4 || defined(SR_SMALL)
/* Rows [top, bottom) of products with the filters, of pixels less their centre, which are brought to float32 once: those
   that a row of results reads, with zeros around them. */
static void sr_conv_pixels(const sr_grid *g, const uint8_t *x, const float *w, const float *centre, const float *bias,
    int top, int bottom, float *y)
{
    const int width = (g->out_width - 1) * g->step_x + g->kernel_x, length = width * g->channels;
    const int start = g->pad_x * g->channels, count = sr_least(g->width * g->channels, length - start);
    float rows[@ROOM@], less[@PERIOD@];
    sr_grid near = *g;
    int row, u, k, j, at;
    for (k = 0; k < @PERIOD@; ++k) {
        less[k] = centre[k % g->channels];
    }
    near.height = g->kernel_y;
    near.width = (sr_size)width;
    near.pad_x = near.pad_y = 0;
    for (row = top; row < bottom; ++row, y += g->out_width * g->filters) {
        memset(rows, 0, sizeof rows);
        for (u = 0; u < g->kernel_y; ++u) {
            const int line = row * g->step_y - g->pad_y + u;
            const uint8_t *from = x + line * g->width * g->channels;
            float *to = rows + u * length + start;
            if (line < 0 || line >= g->height) {
                continue;
            }
            for (k = 0, at = 0; k + 8 <= count; k += 8, from += 8, to += 8, at = at + 8 < @PERIOD@ ? at + 8 : 0) {
                for (j = 0; j < 8; ++j) {
                    to[j] = (float)from[j] - less[at + j];
                }
            }
            for (j = 0; j < count - k; ++j) {
                to[j] = (float)from[j] - less[at + j];
            }
        }
        sr_conv(&near, rows, w, NULL, bias, 0, 1, y);
    }
}
#else
@LOOPS@
#endif

