/* The start of a RISC-V in an emulator; time is the number of instructions. */
#include <stdint.h>

int main(void);
void emulator_start(void);
void emulator_write(const char *text);
unsigned emulator_time(void);
uint32_t *emulator_stack_now(void);
void emulator_exit(void);

static long semihosting(long operation, const void *argument)
{
    register long a0 __asm__("a0") = operation;
    register const void *a1 __asm__("a1") = argument;
    __asm__ volatile(".option push\n\t.option norvc\n\tslli x0, x0, 0x1f\n\tebreak\n\tsrai x0, x0, 7\n\t.option pop"
                     : "+r"(a0)
                     : "r"(a1)
                     : "memory");
    return a0;
}

void emulator_write(const char *text)
{
    semihosting(4, text);
}

void emulator_exit(void)
{
    semihosting(0x18, (const void *)0x20026);
    for (;;) {
    }
}

unsigned emulator_time(void)
{
    register unsigned found __asm__("a0");
    __asm__ volatile(".word 0xB0202573" : "=r"(found)); /* csrr a0, minstret */
    return found;
}

__attribute__((naked)) uint32_t *emulator_stack_now(void)
{
    __asm__ volatile("mv a0, sp\n\tret");
}

__attribute__((section(".vectors"), naked, used)) void emulator_start(void)
{
    __asm__ volatile("la sp, emulator_stack\n\tcall main\n1:\tj 1b");
}
