/* Adds the products of two windows x with two filters, w and v: x w, x v, then those of the second window. Lengths are
   multiples of four. */
#if defined(SR_FORM_DSP)
@DSPLOADS@
@include i8/dots/dsp.c
#elif defined(SR_FORM_MVE)
@include i8/dots/mve.c
#elif defined(SR_FORM_NEON)
@include i8/dots/neon.c
#elif defined(SR_FORM_WASM)
@include i8/dots/wasm.c
#elif defined(SR_FORM_X86)
@include i8/dots/x86.c
#else
@include i8/dots/portable.c
#endif
