/* Sums of eight channels of a window, of rows by pieces taps, each times its own weight: in the processor's form. */
#if defined(SR_FORM_DSP) || defined(SR_FORM_PORTABLE)
@include i8/planes_four.c
#else
@include i8/planes_eight.c
#endif
