#ifdef SR_WIDE
/* The same where it fits: four pixels by eight filters at a time; gives whether it did. Filters are rows of so many weights;
   windows are those of all groups, as bytes without sign. */
static int @NAME@_wide(const sr_grid *g, const @INPUT@ *x, int all, const @WEIGHT@ *w@PARAMETERS@, const int32_t *factor,
    const uint8_t *shift@MORE@, const int32_t *bias, int top, int bottom, @OUTPUT@ *restrict y)
{
    const int units = g->filters / g->groups, width = units < 8 ? units : 8, each = (units + 7) / 8;
    const int taps = g->kernel_y * g->kernel_x, depth = g->channels / g->groups, size = taps * g->channels;
    const int pieces = g->groups == 1 ? 1 : taps, piece = g->groups == 1 ? @PIECE@ : depth;
    const int packed_size = 8 * @STEP@ * pieces * ((piece + @STEP@ - 1) / @STEP@), length = (size + @STEP@ - 1) / @STEP@ * @STEP@;
    const int next = @NEXT@
    const int fitting = SR_WIDE_BYTES / (packed_size * (int)sizeof *w), many = fitting < SR_WIDE_BLOCKS ? fitting : SR_WIDE_BLOCKS;
    @WEIGHT@ packed[SR_WIDE_BYTES / sizeof *w];
    sr_wide_scale scales[SR_WIDE_BLOCKS];
    uint8_t bytes[4 * SR_WIDE_TAPS + 16];
    int filters[SR_WIDE_BLOCKS], starts[SR_WIDE_BLOCKS], first, block, blocks, row, column, k;
    sr_grid joined = *g;
    @WINDOWS@
    if (!sr_wide_taps_fit(g, all) || !sr_wide_fits(shift, @ZEROS_OR_NULL@, g->filters, 32)) {
        return 0;
    }
    memset(bytes, 0, (size_t)(4 * length + 16));
    @PREPARED@
    joined.groups = 1;
    for (first = 0; first < g->groups * each; first += many) {
        blocks = g->groups * each - first < many ? g->groups * each - first : many;
        for (block = 0; block < blocks; ++block) {
            const int which = (first + block) / each, u = which * units + sr_wide_unit((first + block) % each * 8, units);
            __m256i start = sr_wide_some(bias + u, width);
            filters[block] = u;
            starts[block] = which * depth;
            sr_wide_pack@WIDTH@(w + u * all, all, width, pieces, piece, packed + block * packed_size);
            @START@
            scales[block] = sr_wide_prepare(start, sr_wide_some(factor + u, width), shift + u, @ZEROS@, width, g->low, g->high);
        }
        for (row = top; row < bottom; ++row) {
            for (column = 0; column < g->out_width; column += 4) {
                const int wide = g->groups == 1 && (row < bottom - 1 || column < g->out_width - 4); /* more is written over */
                @OUTPUT@ *to;
                column = column < g->out_width - 4 ? column : g->out_width - 4; /* the last four again */
                to = y + ((row - top) * g->out_width + column) * g->filters;
                sr_wide_windows(&joined, (const uint8_t *)x, row * g->step_y - g->pad_y, column, length, next, @FILL@, @FLIP@, bytes);
                @WIDENED@
                for (block = 0; block < blocks; ++block) {
                    const sr_wide_scale scale = scales[block];
                    __m256i sums[4];
                    sr_wide_sums@WIDTH@(@FROM@, g->channels, packed + block * packed_size, pieces, piece, sums);
                    for (k = 0; k < 4; ++k) {
                        sums[k] = _mm256_@SIGN@_epi32(scale.bias, sums[k]);
                    }
                    sr_wide_store_@KIND@(sums, &scale, wide ? 8 : width, g->filters, to + filters[block]);
                }
            }
        }
    }
    return 1;
}
#endif
