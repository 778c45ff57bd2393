/* Runs images and writes the instructions that each took, its bytes of stack and the bits of its scores. */
#include "@NAME@.h"

#include <string.h>

@IMAGES@
void emulator_write(const char *text);
unsigned emulator_time(void);
void emulator_exit(void);
uint32_t *emulator_stack_now(void);
int main(void);

static void write_word(uint32_t word)
{
    char text[10];
    int i;
    for (i = 0; i < 8; ++i) {
        text[i] = "0123456789abcdef"[word >> (28 - 4 * i) & 15u];
    }
    text[8] = '\n';
    text[9] = '\0';
    emulator_write(text);
}

/* The stack below main is filled with words of which those that a call leaves as they are have not been used. */
#define PAINTED 4096
#define PAINT 0xA5C3965Au

int main(void)
{
    static float scores[@UPPER@_CLASSES];
    int image, i;
    emulator_write("scores\n");
    for (image = 0; image < @COUNT@; ++image) {
        volatile uint32_t *const below = emulator_stack_now() - PAINTED;
        unsigned used = PAINTED;
        for (i = 0; i < PAINTED; ++i) {
            below[i] = PAINT;
        }
        const unsigned start = emulator_time();
        const int best = @NAME@_classify(images + image * @UPPER@_INPUT_SIZE, NULL, scores);
        const unsigned spent = emulator_time() - start;
        while (used > 0 && below[PAINTED - used] == PAINT) {
            --used;
        }
        write_word(best < 0 ? 0xFFFFFFFFu : spent);
        write_word(4u * used);
        for (i = 0; i < @UPPER@_CLASSES; ++i) {
            uint32_t bits;
            memcpy(&bits, &scores[i], sizeof bits);
            write_word(bits);
        }
    }
    emulator_write("end\n");
    emulator_exit();
    return 0;
}
