#include <cstring>

#include "simroot.h"

#if defined(_MSC_VER) && defined(_M_X64)
#include <intrin.h>
#endif

namespace {

#if defined(_MSC_VER) && defined(_M_X64)
bool cpu_has(bool avx512) {
    int id[4];
    __cpuid(id, 1);
    const bool saves_registers = (id[2] >> 27) & 1, fma = (id[2] >> 12) & 1;
    if (!saves_registers || !fma) return false;
    const unsigned long long saved = _xgetbv(0);
    __cpuidex(id, 7, 0);
    if (!avx512) return (saved & 0x6) == 0x6 && ((id[1] >> 5) & 1);
    const unsigned wanted = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  // f, dq, bw, vl
    return (saved & 0xe6) == 0xe6 && (static_cast<unsigned>(id[1]) & wanted) == wanted;
}
#elif defined(__x86_64__)
bool cpu_has(bool avx512) {
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return false;
    return !avx512 || (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"));
}
#endif

struct Kernel {
    const char *name;
    void (*function)();
};

struct InstructionSet {
    const char *name;
    bool usable;
    const Kernel *kernels;
};

}  // namespace

#define DECLARE(name, isa) extern "C" SIMROOT_PROTOTYPE(name, isa)
#define ENTRY(name, isa) {#name, reinterpret_cast<void (*)()>(simroot_##name##_##isa)},

#ifdef SIMROOT_X86
#define DECLARE_AVX512(name) DECLARE(name, avx512)
#define DECLARE_AVX2(name) DECLARE(name, avx2)
#define ENTRY_AVX512(name) ENTRY(name, avx512)
#define ENTRY_AVX2(name) ENTRY(name, avx2)
SIMROOT_KERNELS(DECLARE_AVX512)
SIMROOT_KERNELS(DECLARE_AVX2)
static const Kernel avx512[] = {SIMROOT_KERNELS(ENTRY_AVX512){nullptr, nullptr}};
static const Kernel avx2[] = {SIMROOT_KERNELS(ENTRY_AVX2){nullptr, nullptr}};
#endif
#ifdef SIMROOT_ARM
#define DECLARE_NEON(name) DECLARE(name, neon)
#define ENTRY_NEON(name) ENTRY(name, neon)
SIMROOT_KERNELS(DECLARE_NEON)
static const Kernel neon[] = {SIMROOT_KERNELS(ENTRY_NEON){nullptr, nullptr}};
#endif
#define DECLARE_PORTABLE(name) DECLARE(name, portable)
#define ENTRY_PORTABLE(name) ENTRY(name, portable)
SIMROOT_KERNELS(DECLARE_PORTABLE)
static const Kernel portable[] = {SIMROOT_KERNELS(ENTRY_PORTABLE){nullptr, nullptr}};

// Best first.
static const InstructionSet sets[] = {
#ifdef SIMROOT_X86
    {"avx512", cpu_has(true), avx512},
    {"avx2", cpu_has(false), avx2},
#endif
#ifdef SIMROOT_ARM
    {"neon", true, neon},
#endif
    {"portable", true, portable},
};

#define FIELD(type, name) #type " " #name ";"
#define FIELDS(name) {#name, SIMROOT_FIELDS_##name(FIELD)},
static const struct {
    const char *name, *fields;
} descriptions[] = {SIMROOT_KERNELS(FIELDS)};

int simroot_interface(void) { return SIMROOT_INTERFACE; }

const char *simroot_instruction_sets(void) {
    static char names[64] = "";
    if (!names[0]) {
        for (const InstructionSet &set : sets) {
            if (!set.usable) continue;
            if (names[0]) std::strcat(names, ",");
            std::strcat(names, set.name);
        }
    }
    return names;
}

void *simroot_kernel(const char *name, const char *instruction_set) {
    for (const InstructionSet &set : sets) {
        if (!set.usable || (instruction_set && std::strcmp(set.name, instruction_set))) continue;
        for (const Kernel *kernel = set.kernels; kernel->name; ++kernel) {
            if (!std::strcmp(kernel->name, name)) return reinterpret_cast<void *>(kernel->function);
        }
    }
    return nullptr;
}

const char *simroot_fields(const char *name) {
    for (const auto &description : descriptions) {
        if (!std::strcmp(description.name, name)) return description.fields;
    }
    return nullptr;
}
