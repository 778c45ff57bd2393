
/* Preparation of camera frames of any size, as simroot prepares image files: @SEEN@,
   resized bilinearly over the full footprint of each pixel.

   frame: the first row; stride: bytes from one row to the next.
   flips: @UPPER@_MIRROR for a camera that mirrors left and right, @UPPER@_UPSIDE_DOWN, both, or 0.
   work: @UPPER@_WORK_BYTES(width, height) bytes aligned to 4; the arena may serve if it is large enough.
   pixels: @UPPER@_INPUT_SIZE bytes.
   All give 0, or -1 for a frame without pixels or too little room. */
#define @UPPER@_MIRROR 1u
#define @UPPER@_UPSIDE_DOWN 2u
#define @UPPER@_WORK_BYTES(width, height) (4u * (@ROOM@u + 2u * (unsigned)(width)))

/* Three bytes a pixel: red, green, blue. */
int @NAME@_prepare_rgb888(const uint8_t *frame, int width, int height, size_t stride, unsigned flips, void *work,
    size_t work_bytes, uint8_t *pixels);
/* Two bytes a pixel, the first the low one: red in the 5 highest bits, then 6 of green and 5 of blue. Cameras that send
   the high byte first: give @UPPER@_SWAP_BYTES among the flips. */
#define @UPPER@_SWAP_BYTES 4u
int @NAME@_prepare_rgb565(const uint8_t *frame, int width, int height, size_t stride, unsigned flips, void *work,
    size_t work_bytes, uint8_t *pixels);
/* One byte a pixel. */
int @NAME@_prepare_grey(const uint8_t *frame, int width, int height, size_t stride, unsigned flips, void *work,
    size_t work_bytes, uint8_t *pixels);
/* Two pixels in four bytes: Y, U, Y, V; full range, as in JPEG (BT.601). The width is even. */
int @NAME@_prepare_yuv422(const uint8_t *frame, int width, int height, size_t stride, unsigned flips, void *work,
    size_t work_bytes, uint8_t *pixels);
