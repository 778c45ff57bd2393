/* @WHAT@: filters and pixels side by side. */
static void @NAME@(const sr_grid *g, const @INPUT@ *x, const float *w@PARAMETERS@, int rows,
    int pieces, int length, const float *bias, float *to@GIVEN@)
{
    const int depth = g->channels / g->groups, row = g->width * g->channels * g->apart_y;
    const int tap = g->channels * g->apart_x, next = g->channels * g->step_x;
    @NUMBER@ @SUMS@;
    int k, piece, y;
    for (y = 0; y < rows; ++y) {
        for (piece = 0; piece < pieces; ++piece) {
            const @INPUT@ *from = x + y * row + piece * tap;
            const int first = (y * g->kernel_x + piece) * depth * @FILTERS@;
            const float *v = w + first;@SECOND@
            for (k = 0; k < length; ++k) {
@TERMS@
                v += @FILTERS@;@NEXT@
            }
        }
    }
@RESULTS@
}
