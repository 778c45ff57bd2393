/* What the processor's form of a network may leave unused. */
#if defined(__GNUC__)
#define SR_MAYBE __attribute__((unused))
#else
#define SR_MAYBE
#endif

/* Whether channels are computed eight and four at a time, where size does not count and compilers have vectors for them. */
#if defined(__GNUC__) && !defined(SR_PORTABLE) && !defined(__OPTIMIZE_SIZE__) && (defined(__SSE2__) || defined(__aarch64__))
#define SR_MANY
#endif

/* Filters on a grid: sizes in pixels, channels last. */
#ifdef __OPTIMIZE_SIZE__
typedef @SIZE@ sr_size;
#else
typedef int sr_size;
#endif
typedef struct {
    sr_size height, width, channels;
    sr_size out_height, out_width, filters;
    sr_size kernel_y, kernel_x, step_y, step_x, pad_y, pad_x, apart_y, apart_x, groups;
    @LIMITS@
} sr_grid;
