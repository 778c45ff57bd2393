/* The start of a Cortex-M in an emulator; time is SysTick's. */
#include <stdint.h>

extern uint32_t emulator_stack[];
int main(void);
void emulator_reset(void);
void emulator_write(const char *text);
unsigned emulator_time(void);
uint32_t *emulator_stack_now(void);
void emulator_exit(void);

static int semihosting(int operation, const void *argument)
{
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
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

__attribute__((naked)) uint32_t *emulator_stack_now(void)
{
    __asm__ volatile("mov r0, sp\n\tbx lr");
}

/* SysTick counts 24 bits down. */
unsigned emulator_time(void)
{
    static uint32_t last, total;
    const uint32_t now = *(volatile uint32_t *)0xE000E018u;
    total += (last - now) & 0x00FFFFFFu;
    last = now;
    return total;
}

void emulator_reset(void)
{
    *(volatile uint32_t *)0xE000ED88u |= 0x00F00000u; /* the floating-point unit */
    __asm__ volatile("dsb\n\tisb");
    *(volatile uint32_t *)0xE000E014u = 0x00FFFFFFu;
    *(volatile uint32_t *)0xE000E018u = 0u;
    *(volatile uint32_t *)0xE000E010u = 5u;
    main();
    emulator_exit();
}

static void fault(void)
{
    emulator_write("fault\n");
    emulator_exit();
}

typedef struct {
    uint32_t *stack;
    void (*handlers[15])(void);
} emulator_vectors;

__attribute__((section(".vectors"), used)) static const emulator_vectors vectors = {
    emulator_stack,
    {emulator_reset, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault},
};
