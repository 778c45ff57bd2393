/* How many pixels are computed side by side: one where registers are few. */
#if (defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 77) || (defined(__riscv_xlen) && __riscv_xlen == 32)
#define SR_PIXELS 1
#else
#define SR_PIXELS 4
#endif

/* Filters on a grid: sizes in pixels, channels last. */
typedef struct {
    int height, width, channels;
    int out_height, out_width, filters;
    int kernel_y, kernel_x, step_y, step_x, pad_y, pad_x, apart_y, apart_x, groups;
    @LIMITS@
} sr_grid;
