
/* Pictures: their room is what lies behind the network's own memory, which grows as it is needed. */
extern unsigned char __heap_base;

static size_t picture_start(void)
{
    return ((size_t)&__heap_base + 15u) & ~(size_t)15u;
}

/* Where a picture belongs: red, green, blue and alpha of each pixel, row after row. NULL if there is no memory. */
EXPORTED(picture) uint8_t *picture(int width, int height)
{
    const uint64_t pixels = 4u * (uint64_t)width * (uint64_t)height, work = @UPPER@_WORK_BYTES(width, 0);
    const uint64_t pages = (picture_start() + pixels + work + 65535u) >> 16;
    const size_t there = __builtin_wasm_memory_size(0);
    if (width < 1 || height < 1 || width > 65535 || height > 65535 || pages > 65535u) {
        return NULL;
    }
    if (pages > there && __builtin_wasm_memory_grow(0, (size_t)pages - there) == (size_t)-1) {
        return NULL;
    }
    return (uint8_t *)picture_start();
}

/* From a picture to the network's input, as simroot prepares image files: laid over the background, with Pillow's
   arithmetic, then fitted and resized. 0, or -1 for what is no picture. */
EXPORTED(prepare) int prepare(int width, int height)
{
    static const uint8_t background[3] = {@BACKGROUND@};
    uint8_t *const pixels = (uint8_t *)picture_start();
    const size_t count = (size_t)width * (size_t)height;
    size_t i;
    int c;
    for (i = 0; i < count; ++i) {
        const uint32_t share = pixels[4 * i + 3] * 128u;
        for (c = 0; c < 3; ++c) {
            const uint32_t sum = pixels[4 * i + (size_t)c] * share + background[c] * (32640u - share) + 16384u;
            pixels[3 * i + (size_t)c] = (uint8_t)(((sum >> 8) + sum) >> 15);
        }
    }
    return @NAME@_prepare_rgb888(pixels, width, height, 3u * (size_t)width, 0u, pixels + 4u * count,
        @UPPER@_WORK_BYTES(width, height), input_numbers);
}
