/* Camera frames: Pillow's resampling to the bit, in 22 fractional bits, with sums of one row at a time. */
typedef struct sr_frame sr_frame;
struct sr_frame {
    const uint8_t *data;
    int width, height;
    size_t stride;
    unsigned flips;
    void (*read)(const sr_frame *frame, const uint8_t *row, int column, int *rgb);
};

static void sr_read_rgb888(const sr_frame *frame, const uint8_t *row, int column, int *rgb)
{
    const uint8_t *from = row + 3 * column;
    (void)frame;
    rgb[0] = from[0];
    rgb[1] = from[1];
    rgb[2] = from[2];
}

static void sr_read_rgb565(const sr_frame *frame, const uint8_t *row, int column, int *rgb)
{
    const uint8_t *from = row + 2 * column;
    const int swapped = (frame->flips & 4u) != 0;
    const int bits = from[swapped] | from[!swapped] << 8;
    const int red = bits >> 11, green = bits >> 5 & 63, blue = bits & 31;
    rgb[0] = red << 3 | red >> 2;
    rgb[1] = green << 2 | green >> 4;
    rgb[2] = blue << 3 | blue >> 2;
}

static void sr_read_grey(const sr_frame *frame, const uint8_t *row, int column, int *rgb)
{
    (void)frame;
    rgb[0] = rgb[1] = rgb[2] = row[column];
}

static int sr_byte(int value)
{
    return value < 0 ? 0 : value > 255 ? 255 : value;
}

static void sr_read_yuv422(const sr_frame *frame, const uint8_t *row, int column, int *rgb)
{
    const uint8_t *pair = row + column / 2 * 4;
    const int y = pair[column % 2 * 2], u = pair[1] - 128, v = pair[3] - 128;
    (void)frame;
    /* Multiples of 1 / 65536, rounded; 8388608 keeps what is shifted positive. */
    rgb[0] = sr_byte(y - 128 + ((91881 * v + 32768 + 8388608) >> 16));
    rgb[1] = sr_byte(y - 128 + ((-22554 * u - 46802 * v + 32768 + 8388608) >> 16));
    rgb[2] = sr_byte(y - 256 + ((116130 * u + 32768 + 16777216) >> 16));
}

/* A triangle of the width of the pixel's footprint: where it begins, how many pixels it spans, its first weight's place
   and step, and the sum of its weights. Every product and sum is rounded once, as in Pillow. */
typedef struct {
    double centre, slope, total;
    int first, count;
} sr_footprint;

static double sr_weight(const sr_footprint *at, int index)
{
    double away = (double)(index + at->first);
    away = away - at->centre;
    away = away + 0.5;
    away = away * at->slope;
    if (away < 0.0) {
        away = -away;
    }
    return away < 1.0 ? 1.0 - away : 0.0;
}

static void sr_find_footprint(sr_footprint *at, float start, float end, int position, int outputs, int size)
{
    const double scale = (double)(end - start) / outputs;
    const double support = scale < 1.0 ? 1.0 : scale;
    double middle = position + 0.5;
    int last, index;
    middle = middle * scale;
    at->centre = start + middle;
    at->slope = 1.0 / support;
    at->first = (int)(at->centre - support + 0.5);
    last = (int)(at->centre + support + 0.5);
    if (at->first < 0) {
        at->first = 0;
    }
    if (last > size) {
        last = size;
    }
    at->count = last - at->first;
    at->total = 0.0;
    for (index = 0; index < at->count; ++index) {
        at->total += sr_weight(at, index);
    }
}

static int32_t sr_fixed_weight(const sr_footprint *at, int index)
{
    double weight = sr_weight(at, index);
    if (at->total != 0.0) {
        weight = weight / at->total;
    }
    weight = weight * 4194304.0;
    weight = weight + 0.5;
    return (int32_t)weight;
}

static uint8_t sr_round_weighted(int32_t sum)
{
    const int32_t value = sum < 0 ? 0 : sum >> 22;
    return (uint8_t)(value > 255 ? 255 : value);
}

/* Of one axis: what of a frame is seen, and which of the pixels it fills; the others are background. */
typedef struct {
    float start, end;
    int first, count, same;
} sr_axis;

/* To the nearest whole number, ties to even, for what is not negative. */
static int sr_nearest(double value)
{
    const int below = (int)value;
    const double rest = value - below;
    return rest > 0.5 || (rest == 0.5 && below % 2 != 0) ? below + 1 : below;
}

static void sr_find_axis(sr_axis *axis, double low, double high, int length, int pixels)
{
    const double least = low > 0.0 ? low : 0.0, most = high < length ? high : (double)length;
    const double size = high - low;
    int last = sr_nearest((most - low) / size * pixels);
    axis->first = sr_nearest((least - low) / size * pixels);
    if (axis->first > pixels - 1) {
        axis->first = pixels - 1;
    }
    if (last < axis->first + 1) {
        last = axis->first + 1;
    }
    axis->count = last - axis->first;
    axis->start = (float)least;
    axis->end = (float)most;
    axis->same = axis->count == length && axis->start == 0.0F && axis->end == (float)length;
}

static void sr_find_box(const sr_frame *frame, sr_axis *across, sr_axis *down)
{
    enum { crop = @CROP@, pad = @PAD@ };
    const int width = frame->width, height = frame->height;
    const double share = @SHARE@;
    double wide = width, high = height, left, top, more;
    if (crop && (double)height * @WIDTH@ / @HEIGHT@ < wide) {
        wide = (double)height * @WIDTH@ / @HEIGHT@;
    }
    if (crop && (double)width * @HEIGHT@ / @WIDTH@ < high) {
        high = (double)width * @HEIGHT@ / @WIDTH@;
    }
    wide = share * wide;
    high = share * high;
    left = 0.5 * (width - wide);
    top = 0.5 * (height - high);
    wide = left + wide;
    high = top + high;
    if (pad) {
        const double side = wide - left, edge = high - top;
        more = (edge * @WIDTH@ / @HEIGHT@ - side) / 2.0;
        if (more > 0.0) {
            left = left - more;
            wide = wide + more;
        }
        more = (side * @HEIGHT@ / @WIDTH@ - edge) / 2.0;
        if (more > 0.0) {
            top = top - more;
            high = high + more;
        }
    }
    sr_find_axis(across, left, wide, width, @WIDTH@);
    sr_find_axis(down, top, high, height, @HEIGHT@);
}

static int sr_prepare(const sr_frame *frame, void *work, size_t work_bytes, uint8_t *pixels)
{
    enum { channels = @CHANNELS@ };
    static const uint8_t background[channels] = {@BACKGROUND@};
    int32_t *const sums = (int32_t *)work;
    int32_t *const weights = sums + @WIDTH@ * channels;
    sr_axis across, down;
    sr_footprint at;
    int span, row, column, c, i, line;
    if (frame->width < 1 || frame->height < 1 || work == NULL || ((uintptr_t)work & 3u) != 0) {
        return -1;
    }
    sr_find_box(frame, &across, &down);
    span = (int)((across.end - across.start) / (float)across.count) * 2 + 7;
    if (work_bytes < sizeof *sums * (size_t)(@WIDTH@ * channels + across.count * span)) {
        return -1;
    }
    for (i = 0; i < @HEIGHT@ * @WIDTH@ * channels; ++i) {
        pixels[i] = background[i % channels];
    }
    for (column = 0; column < across.count; ++column) {
        int32_t *to = weights + column * span;
        sr_find_footprint(&at, across.start, across.end, column, across.count, frame->width);
        to[0] = across.same ? column : at.first;
        to[1] = across.same ? 1 : at.count;
        for (i = 0; i < to[1]; ++i) {
            to[2 + i] = across.same ? 4194304 : sr_fixed_weight(&at, i);
        }
    }
    for (row = 0; row < down.count; ++row) {
        uint8_t *to = pixels + ((down.first + row) * @WIDTH@ + across.first) * channels;
        sr_find_footprint(&at, down.start, down.end, row, down.count, frame->height);
        if (down.same) {
            at.first = row;
            at.count = 1;
        }
        for (i = 0; i < across.count * channels; ++i) {
            sums[i] = 2097152;
        }
        for (line = 0; line < at.count; ++line) {
            const int y = frame->flips & 2u ? frame->height - 1 - at.first - line : at.first + line;
            const uint8_t *from = frame->data + (size_t)y * frame->stride;
            const int32_t factor = down.same ? 4194304 : sr_fixed_weight(&at, line);
            for (column = 0; column < across.count; ++column) {
                const int32_t *w = weights + column * span;
                int32_t sum[3] = {2097152, 2097152, 2097152};
                for (i = 0; i < w[1]; ++i) {
                    const int x = frame->flips & 1u ? frame->width - 1 - w[0] - i : w[0] + i;
                    int rgb[3];
                    frame->read(frame, from, x, rgb);
@GREY@
                    for (c = 0; c < channels; ++c) {
                        sum[c] += rgb[c] * w[2 + i];
                    }
                }
                for (c = 0; c < channels; ++c) {
                    sums[column * channels + c] += factor * sr_round_weighted(sum[c]);
                }
            }
        }
        for (i = 0; i < across.count * channels; ++i) {
            to[i] = sr_round_weighted(sums[i]);
        }
    }
    return 0;
}
