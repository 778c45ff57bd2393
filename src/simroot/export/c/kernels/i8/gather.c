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
    const int depth = g->channels / g->groups, at = column * g->step_x - g->pad_x;
    const int whole = at >= 0 && at + (g->kernel_x - 1) * g->apart_x < g->width;
    const int joined = whole && g->groups == 1 && g->apart_x == 1;
    const int pieces = joined ? 1 : g->kernel_x, piece = joined ? g->kernel_x * depth : depth;
    const int next_y = g->apart_y * g->width * g->channels, next_x = g->apart_x * g->channels;
    const int start = (y * g->width + at) * g->channels + group * depth;
    uint8_t *const end = to + length;
    int u, v;
    for (u = 0; u < rows; ++u) {
        const int inside = y + u * g->apart_y >= 0 && y + u * g->apart_y < g->height;
        for (v = 0; v < pieces; ++v, to += piece) {
            if (inside && (whole || (at + v * g->apart_x >= 0 && at + v * g->apart_x < g->width))) {
                sr_copy(to, x + start + u * next_y + v * next_x, piece);
            } else if (fill != NULL) {
                sr_copy(to, fill, piece);
            } else {
                memset(to, g->zero, (size_t)piece);
            }
        }
    }
    memset(to, fill != NULL ? 0 : g->zero, (size_t)(end - to));
}
