/* Sums of four or eight filters in one vector, where compiler and processor have such, and four or eight pixels side by side
   where registers are many. Each sum adds the same numbers in the same order as in C alone, so that no bit differs. */
#if defined(__GNUC__) && !defined(SR_PORTABLE) && (defined(__SSE2__) || defined(__aarch64__) \
    || defined(__wasm_simd128__) || (defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE > 1))
#define SR_FOUR
#ifdef __wasm_simd128__
#include <wasm_simd128.h>
#endif
@FOUR@
#endif
/* Where size counts, four filters at a time by one function. */
#if defined(SR_FOUR) && defined(__OPTIMIZE_SIZE__)
#define SR_SMALL
#endif
#if defined(SR_FOUR) && defined(__AVX__) && !defined(SR_SMALL)
#define SR_PIXELS 8
#elif defined(SR_FOUR) && !defined(__ARM_FEATURE_MVE)
#define SR_PIXELS 4
#else
#define SR_PIXELS 1
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
#if defined(__AVX512F__) && !defined(SR_SMALL)
#define SR_SIXTEEN
/* GCC does not see that sixteen are read only where there are as many. */
#pragma GCC diagnostic ignored "-Warray-bounds"
@SIXTEEN@
/* Of two blocks of eight filters. */
SR_MAYBE static inline sr_sixteen sr_load_blocks(const float *from, int apart)
{
    const __m512d first = _mm512_castpd256_pd512((__m256d)sr_load_eight(from));
    return (sr_sixteen)_mm512_insertf64x4(first, (__m256d)sr_load_eight(from + apart), 1);
}
#endif
#endif
/* How many filters are computed at a time, from one on. */
#ifdef SR_SIXTEEN
#define SR_FILTERS(units, unit) ((units) < 16 || (units) - (unit) < 16 ? sr_least((units) - (unit), 8) : 16)
#else
#define SR_FILTERS(units, unit) sr_least((units) - (unit), 8)
#endif
/* Of columns all of which see no column outside of the grid, and which are at least four. */
#ifdef SR_SMALL
#define SR_INSIDE(pixels) 4
#else
#define SR_INSIDE(pixels) (pixels)
#endif
/* What is read behind the last of fewer filters than are read at a time. */
#if defined(SR_EIGHT)
#define SR_BEHIND 7
#elif defined(SR_FOUR)
#define SR_BEHIND 3
#else
#define SR_BEHIND 0
#endif
