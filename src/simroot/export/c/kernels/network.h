/* @TITLE@

   Written by simroot @VERSION@: do not edit. @PRECISION@ arithmetic, C99, no allocation.

   Images are @HEIGHT@ x @WIDTH@ x @CHANNELS@, channels last: row after row, pixel after pixel. @INPUTTEXT@ */
#ifndef @UPPER@_H
#define @UPPER@_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define @UPPER@_HEIGHT @HEIGHT@
#define @UPPER@_WIDTH @WIDTH@
#define @UPPER@_CHANNELS @CHANNELS@
#define @UPPER@_INPUT_SIZE @INPUTSIZE@
#define @UPPER@_CLASSES @CLASSES@

/* Bytes that @NAME@_classify works in; @FLASH@ bytes of constants are in flash. */
#define @UPPER@_ARENA_BYTES @ARENA@

/* Names of the classes, in the order of the scores. */
extern const char *const @NAME@_class_names[@UPPER@_CLASSES];
@THRESHOLDS_HEADER@
/* The @MOSTLIKELY@class of an image, and all scores (before a @SQUASHED@).

   arena: @UPPER@_ARENA_BYTES bytes, aligned to @ALIGNMENT@, that may be used for anything else between two calls;
   or NULL for a static one, which is left out with -D@UPPER@_NO_STATIC_ARENA.
   scores: @UPPER@_CLASSES numbers.
   Gives -1 if the arena is NULL without a static one, or not aligned. */
int @NAME@_classify(const @INPUT@ *@ARGUMENT@, void *arena, float *scores);

/* Runs the images that are kept in the source; gives how many come out wrong. */
int @NAME@_selftest(void *arena);
@PREPARE@
#ifdef __cplusplus
}
#endif

#endif
