/* Which form the dot products take: that of the processor that this is compiled for, or C alone with -DSR_PORTABLE. All
   give the same bits. A form says where number k of a window lies: SR_SLOT8 for weights of 8 bits, SR_SLOT16 of 16. */
#if defined(SR_PORTABLE)
#define SR_FORM_PORTABLE
#elif defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE & 1
#define SR_FORM_MVE
#define SR_LANES 16 /* of bytes */
#include <arm_mve.h>
#elif defined(__ARM_FEATURE_DSP) && defined(__GNUC__) && !defined(__ARM_BIG_ENDIAN) && defined(__thumb2__)
#define SR_FORM_DSP
#define SR_LANES 4
#elif defined(__aarch64__) && defined(__ARM_NEON) && !defined(__ARM_BIG_ENDIAN)
#define SR_FORM_NEON
#include <arm_neon.h>
#elif defined(__wasm_simd128__)
#define SR_FORM_WASM
#define SR_LANES 8
#include <wasm_simd128.h>
#elif defined(__SSE2__)
#define SR_FORM_X86
#include <immintrin.h>
#ifdef __AVX2__
#define SR_WIDE
#endif
#else
#define SR_FORM_PORTABLE
#endif

/* What keeps all registers to itself. */
#if defined(__GNUC__)
#define SR_APART __attribute__((noinline, unused))
#else
#define SR_APART
#endif

/* Two windows, one behind the other; for DSP in turns of four numbers, the middle two of which change places where weights
   are widened by sxtb16. */
#ifdef SR_FORM_DSP
#define SR_SLOT16(length, which, k) (((k) & ~3) * 2 + (which) * 4 + ((k) & 3))
#define SR_SLOT8(length, which, k) (((k) & ~3) * 2 + (which) * 4 + (((k) & 1) << 1 | ((k) >> 1 & 1)))
#else
#define SR_SLOT16(length, which, k) ((which) * (length) + (k))
#define SR_SLOT8 SR_SLOT16
#endif

#ifdef SR_FORM_DSP
static inline uint32_t sr_word(const void *at)
{
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static inline int32_t sr_two(uint32_t x, uint32_t w, int32_t sum)
{
    __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(x), "r"(w));
    return sum;
}
#endif
