/* Sums of four or eight filters in one vector, where compiler and processor have such, and four pixels side by side where
   registers are many. Each sum adds the same numbers in the same order as in C alone, so that no bit differs. */
#if defined(__GNUC__) && !defined(SR_PORTABLE) && (defined(__SSE2__) || defined(__aarch64__) \
    || defined(__wasm_simd128__) || (defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE > 1))
#define SR_FOUR
#ifdef __wasm_simd128__
#include <wasm_simd128.h>
#endif
@FOUR@
#endif
#if defined(SR_FOUR) && !defined(__ARM_FEATURE_MVE)
#define SR_PIXELS 4
#else
#define SR_PIXELS 1
#endif
/* Where size counts, four filters at a time by one function. */
#if defined(SR_FOUR) && defined(__OPTIMIZE_SIZE__)
#define SR_SMALL
#endif
/* From how many filters on: code for fewer is left out where size counts. */
#if defined(__OPTIMIZE_SIZE__) && !defined(SR_SMALL)
#define SR_LEAST 4
#else
#define SR_LEAST 1
#endif
#if defined(SR_FOUR) && defined(__AVX__)
#define SR_EIGHT
#include <immintrin.h>
@EIGHT@
#endif
/* What is read behind the last of fewer filters than are read at a time. */
#if defined(SR_EIGHT)
#define SR_BEHIND 7
#elif defined(SR_FOUR)
#define SR_BEHIND 3
#else
#define SR_BEHIND 0
#endif
