SR_MAYBE static void sr_copy(uint8_t *to, const uint8_t *from, int count)
{
    uint32_t word;
    for (; count >= 4; count -= 4, to += 4, from += 4) {
        memcpy(&word, from, sizeof word);
        memcpy(to, &word, sizeof word);
    }
    for (; count > 0; --count) {
        *to++ = *from++;
    }
}

/* Some rows of the window of one pixel and group, tap after tap, and what stands for 0 outside of the grid and up to the
   length: bytes of fill, or the grid's zero. */
SR_MAYBE static void sr_gather(const sr_grid *g, const uint8_t *x, int y, int rows, int column, int group, int length,
    const uint8_t *fill, uint8_t *to)
{
    const int depth = g->channels / g->groups, at = column * g->step_x - g->pad_x, piece = g->kernel_x * depth;
    const int next_y = g->apart_y * g->width * g->channels, next_x = g->apart_x * g->channels;
    const int whole = at >= 0 && at + (g->kernel_x - 1) * g->apart_x < g->width && y >= 0 && y + (rows - 1) * g->apart_y < g->height;
    uint8_t *const end = to + length;
    int u, v, start = (y * g->width + at) * g->channels + group * depth;
    for (u = 0; u < rows; ++u, start += next_y) {
        if (whole && next_x == depth) { /* taps of a row lie side by side */
            sr_copy(to, x + start, piece);
            to += piece;
            continue;
        }
        for (v = 0; v < g->kernel_x; ++v, to += depth) {
            const int down = y + u * g->apart_y, across = at + v * g->apart_x;
            if (whole || (down >= 0 && down < g->height && across >= 0 && across < g->width)) {
                sr_copy(to, x + start + v * next_x, depth);
            } else if (fill != NULL) {
                sr_copy(to, fill, depth);
            } else {
                memset(to, g->zero, (size_t)depth);
            }
        }
    }
    memset(to, fill != NULL ? 0 : g->zero, (size_t)(end - to));
}
