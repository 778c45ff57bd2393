/* Channels and pixels side by side: products with a filter of each channel's own. */
static void @NAME@(const sr_grid *g, const float *x, const float *w, int rows, int pieces,
    const float *bias, float *to@GIVEN@)
{
    const int row = g->width * g->channels * g->apart_y, tap = g->channels * g->apart_x;
    const int next = g->channels * g->step_x;
    @NUMBER@ @SUMS@;
    int piece, y;
    for (y = 0; y < rows; ++y) {
        const float *from = x + y * row, *v = w + y * g->kernel_x * g->channels;
        for (piece = 0; piece < pieces; ++piece) {
@TERMS@
            from += tap;
            v += g->channels;
        }
    }
    (void)next;
@RESULTS@
}

