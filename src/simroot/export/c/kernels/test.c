/* The test of @NAME@: without arguments it runs the images that are kept in the source. With a file of images, one
   behind the other, it writes their scores to a second file as float32, and says how long an image takes. */
#include "@NAME@.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

int main(int count, char **words)
{
    static @INPUT@ image[@UPPER@_INPUT_SIZE];
    static float scores[@UPPER@_CLASSES];
    FILE *images, *results;
    long number = 0;
    clock_t spent = 0;
    if (count < 3) {
        const int wrong = @NAME@_selftest(NULL);
        printf("%s: %d wrong\n", wrong ? "FAILED" : "passed", wrong);
        return wrong != 0;
    }
    images = fopen(words[1], "rb");
    results = fopen(words[2], "wb");
    if (images == NULL || results == NULL) {
        fprintf(stderr, "%s or %s cannot be opened\n", words[1], words[2]);
        return 2;
    }
    while (fread(image, sizeof image, 1, images) == 1) {
        const clock_t start = clock();
        if (@NAME@_classify(image, NULL, scores) < 0 || fwrite(scores, sizeof scores, 1, results) != 1) {
            fprintf(stderr, "image %ld cannot be classified or written\n", number);
            return 2;
        }
        spent += clock() - start;
        ++number;
    }
    fclose(images);
    if (fclose(results) != 0) {
        return 2;
    }
    if (number > 0) {
        printf("%ld images, %.3f ms each\n", number, 1000.0 * (double)spent / CLOCKS_PER_SEC / (double)number);
    }
    return 0;
}
