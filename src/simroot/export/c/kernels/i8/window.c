/* Some rows of the window of one pixel and group in 16 bits, as bytes without sign. */
SR_MAYBE static void sr_window(const sr_grid *g, const uint8_t *x, int y, int rows, int column, int group, int length,
    const uint8_t *fill, int flip, int16_t *windows, int which)
{
    uint8_t *const bytes = (uint8_t *)(windows + 2 * length);
    int16_t *to = windows + SR_SLOT8(length, which, 0);
    const int at = column * g->step_x - g->pad_x;
    const int piece = g->kernel_x * g->channels;
    int u;
    if (g->groups == 1 && g->apart_x == 1 && piece % 4 == 0 && at >= 0 && at + g->kernel_x <= g->width && y >= 0
        && y + (rows - 1) * g->apart_y < g->height) {
        for (u = 0; u < rows; ++u, to += SR_SLOT8(length, 0, 4) / 4 * piece) {
            sr_widen(x + ((y + u * g->apart_y) * g->width + at) * g->channels, piece, flip, to);
        }
    } else {
        sr_gather(g, x, y, rows, column, group, length, fill, bytes);
        sr_widen(bytes, length, flip, to);
    }
}
