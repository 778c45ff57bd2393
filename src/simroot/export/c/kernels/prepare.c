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

static int sr_prepare(const sr_frame *frame, void *work, size_t work_bytes, uint8_t *pixels)
{
    enum { outputs = @SIDE@, channels = @CHANNELS@ };
    const double share = @SHARE@;
    const double side = share * (frame->width < frame->height ? frame->width : frame->height);
    const double left = 0.5 * (frame->width - side), top = 0.5 * (frame->height - side);
    const float box_left = (float)left, box_top = (float)top;
    const float box_right = (float)(left + side), box_bottom = (float)(top + side);
    int32_t *const sums = (int32_t *)work;
    int32_t *const weights = sums + outputs * channels;
    const int span = (int)side / outputs * 2 + 5;
    const int across = frame->width != outputs || box_left > 0.0F || box_right < (float)frame->width;
    const int down = frame->height != outputs || box_top > 0.0F || box_bottom < (float)frame->height;
    sr_footprint at;
    int row, column, c, i, line;
    if (frame->width < 1 || frame->height < 1 || work == NULL || ((uintptr_t)work & 3u) != 0
        || work_bytes < sizeof *sums * (size_t)(outputs * (channels + span + 2))) {
        return -1;
    }
    for (column = 0; column < outputs; ++column) {
        int32_t *to = weights + column * (span + 2);
        sr_find_footprint(&at, box_left, box_right, column, outputs, frame->width);
        to[0] = across ? at.first : column;
        to[1] = across ? at.count : 1;
        for (i = 0; i < to[1]; ++i) {
            to[2 + i] = across ? sr_fixed_weight(&at, i) : 4194304;
        }
    }
    for (row = 0; row < outputs; ++row) {
        sr_find_footprint(&at, box_top, box_bottom, row, outputs, frame->height);
        if (!down) {
            at.first = row;
            at.count = 1;
        }
        for (i = 0; i < outputs * channels; ++i) {
            sums[i] = 2097152;
        }
        for (line = 0; line < at.count; ++line) {
            const int y = frame->flips & 2u ? frame->height - 1 - at.first - line : at.first + line;
            const uint8_t *from = frame->data + (size_t)y * frame->stride;
            const int32_t factor = down ? sr_fixed_weight(&at, line) : 4194304;
            for (column = 0; column < outputs; ++column) {
                const int32_t *w = weights + column * (span + 2);
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
        for (i = 0; i < outputs * channels; ++i) {
            pixels[row * outputs * channels + i] = sr_round_weighted(sums[i]);
        }
    }
    return 0;
}
