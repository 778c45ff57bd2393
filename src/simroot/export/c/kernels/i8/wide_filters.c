#ifdef SR_WIDE
/* The same: four pixels by eight filters at a time. Filters are rows of so many weights; windows are those of all groups. */
static void @NAME@_wide(const sr_grid *g, const @INPUT@ *x, int all, const @WEIGHT@ *w@PARAMETERS@, const int32_t *factor,
    const uint8_t *shift@MORE@, const int32_t *bias, int top, int bottom, @OUTPUT@ *y)
{
    const int units = g->filters / g->groups, width = units < 8 ? units : 8, each = (units + 7) / 8, rows = g->kernel_y;
    const int taps = g->kernel_y * g->kernel_x, depth = g->channels / g->groups, group = 0;
    const int pieces = g->groups == 1 ? 1 : taps, piece = g->groups == 1 ? @PIECE@ : depth, pairs = (piece + 1) / 2;
    const int length = g->groups == 1 ? all : (taps * g->channels + 3) / 4 * 4, packed_size = 16 * pieces * pairs;
    const int next = @PLAIN@ && taps == 1 && g->step_x == 1 ? g->channels : length; /* windows that lie as the pixels do */
    const int fitting = SR_WIDE_BYTES / (packed_size * (int)sizeof *w), many = fitting < SR_WIDE_BLOCKS ? fitting : SR_WIDE_BLOCKS;
    @WEIGHT@ packed[SR_WIDE_BYTES / sizeof *w + 16];
    sr_wide_scale scales[SR_WIDE_BLOCKS];
    int16_t windows[6 * SR_WIDE_TAPS + 8], less[4 * SR_WIDE_TAPS + 8];
    int filters[SR_WIDE_BLOCKS], starts[SR_WIDE_BLOCKS], first, block, blocks, row, column, k;
    sr_grid joined = *g;
    for (k = 0; k < 4 * length + 8; ++k) {
        less[k] = @LESS@;
    }
    joined.groups = 1;
    for (first = 0; first < g->groups * each; first += many) {
        blocks = g->groups * each - first < many ? g->groups * each - first : many;
        for (block = 0; block < blocks; ++block) {
            const int which = (first + block) / each, u = which * units + sr_wide_unit((first + block) % each * 8, units);
            filters[block] = u;
            starts[block] = which * depth;
            sr_wide_pack@WIDTH@(w + u * all, all, width, pieces, piece, packed + block * packed_size);
            scales[block] = sr_wide_prepare(sr_wide_some(bias + u, width), sr_wide_some(factor + u, width), shift + u, @ZEROS@, width, g->low, g->high);
        }
        for (row = top; row < bottom; ++row) {
            const int down = row * g->step_y - g->pad_y;
            for (column = 0; column < g->out_width; column += 4) {
                const int wide = g->groups == 1 && (row < bottom - 1 || column < g->out_width - 4); /* more is written over */
                @OUTPUT@ *to;
                column = column < g->out_width - 4 ? column : g->out_width - 4; /* the last four again */
                to = y + ((row - top) * g->out_width + column) * g->filters;
                for (k = @WINDOW_NAME@(g, x, down, column, next, less, windows) ? 4 : 0; k < 4; ++k) {
                    const int at = column + k, i = 0;
                    int16_t *const room = windows + k * next;
                    const sr_grid *const g = &joined;
                    @WINDOW@
                }
                for (block = 0; block < blocks; ++block) {
                    const sr_wide_scale scale = scales[block];
                    __m256i sums[4];
                    sr_wide_sums@WIDTH@(windows + starts[block], next, g->channels, packed + block * packed_size, pieces, pairs, sums);
                    for (k = 0; k < 4; ++k) {
                        sums[k] = _mm256_@SIGN@_epi32(scale.bias, sums[k]);
                    }
                    sr_wide_store_@KIND@(sums, &scale, wide ? 8 : width, g->filters, to + filters[block]);
                }
            }
        }
    }
}
#endif
