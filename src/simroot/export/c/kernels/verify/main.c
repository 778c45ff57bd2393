/* Runs images and writes the bits of their scores, then the instructions that they took, by semihosting. */
#include "@NAME@.h"

#include <string.h>

@IMAGES@
void emulator_write(const char *text);
unsigned emulator_time(void);
void emulator_exit(void);
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

int main(void)
{
    static float scores[@UPPER@_CLASSES];
    int image, i;
    emulator_write("scores\n");
    for (image = 0; image < @COUNT@; ++image) {
        const unsigned start = emulator_time();
        const int best = @NAME@_classify(images + image * @UPPER@_INPUT_SIZE, NULL, scores);
        const unsigned spent = emulator_time() - start;
        write_word(best < 0 ? 0xFFFFFFFFu : spent);
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
