/* The network's functions, as a page or a runtime of WebAssembly calls them; nothing is imported. */
#include "@NAME@.h"

#define EXPORTED(name) __attribute__((export_name(#name)))

static @INPUT@ input_numbers[@UPPER@_INPUT_SIZE];
static float score_numbers[@UPPER@_CLASSES];

/* Where the network's input lies, channels last, and its bytes. */
EXPORTED(input) void *input(void)
{
    return input_numbers;
}

EXPORTED(input_bytes) unsigned input_bytes(void)
{
    return sizeof input_numbers;
}

/* Where the scores are, and how many. */
EXPORTED(scores) float *scores(void)
{
    return score_numbers;
}

EXPORTED(classes) int classes(void)
{
    return @UPPER@_CLASSES;
}

@UNPACKING@
/* From the input to the scores; gives the best class. */
EXPORTED(classify) int classify(void)
{@UNPACK@
    return @NAME@_classify(input_numbers, NULL, score_numbers);
}
