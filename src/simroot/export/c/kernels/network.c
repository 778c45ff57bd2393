/* @TITLE@

   Written by simroot @VERSION@: do not edit. */
#include "@NAME@.h"

@INCLUDES@#include <string.h>

@KERNELS@
/* Constants. */
@TABLES@
const char *const @NAME@_class_names[@UPPER@_CLASSES] = {
@NAMES@
};
@THRESHOLDS@
#ifndef @UPPER@_NO_STATIC_ARENA
static @ARENATYPE@ @NAME@_arena[(@UPPER@_ARENA_BYTES + sizeof(@ARENATYPE@) - 1) / sizeof(@ARENATYPE@) + 1];
#endif

static void @NAME@_run(const @INPUT@ *input, @ARENATYPE@ *arena, @OUTPUT@ *output)
{
@LOCALS@@CALLS@
}

int @NAME@_classify(const @INPUT@ *@ARGUMENT@, void *arena, float *scores)
{
    int i, best = 0;
#ifndef @UPPER@_NO_STATIC_ARENA
    if (arena == NULL) {
        arena = @NAME@_arena;
    }
#endif
    if (arena == NULL || ((uintptr_t)arena & (@ALIGNMENT@u - 1u)) != 0) {
        return -1;
    }
@FINISH@
    for (i = 1; i < @UPPER@_CLASSES; ++i) {
        if (scores[i] > scores[best]) {
            best = i;
        }
    }
    return best;
}
@PREPARE@
/* Images and their scores@ORIGIN@. */
@TESTS@
int @NAME@_selftest(void *arena)
{
    float scores[@UPPER@_CLASSES];
    int wrong = 0, image, i;
    for (image = 0; image < @COUNT@; ++image) {
        int good = @NAME@_classify(@NAME@_test_images + image * @UPPER@_INPUT_SIZE, arena, scores) >= 0;
        for (i = 0; i < @UPPER@_CLASSES; ++i) {
            const float away = scores[i] - @NAME@_test_scores[image * @UPPER@_CLASSES + i];
            good = good && away >= @LOWEST@ && away <= @HIGHEST@;
        }
        wrong += !good;
    }
    return wrong;
}
