static v128_t sr_eight@WIDTH@(const @WEIGHT@ *w)
{
    return @WASM8@;
}

static v128_t sr_four@WIDTH@(const @WEIGHT@ *w)
{
    return @WASM4@;
}

static inline void sr_dot@WIDTH@_of_two(const int16_t *x, int length, const @WEIGHT@ *w, const @WEIGHT@ *v, int32_t *sums)
{
    const int16_t *y = x + length;
    v128_t a = wasm_i32x4_splat(0), b = a, c = a, d = a;
    int k;
    for (k = 0; k + 8 <= length; k += 8) {
        const v128_t p = wasm_v128_load(x + k), q = wasm_v128_load(y + k);
        const v128_t f = sr_eight@WIDTH@(w + k), g = sr_eight@WIDTH@(v + k);
        a = wasm_i32x4_add(a, wasm_i32x4_dot_i16x8(p, f));
        b = wasm_i32x4_add(b, wasm_i32x4_dot_i16x8(p, g));
        c = wasm_i32x4_add(c, wasm_i32x4_dot_i16x8(q, f));
        d = wasm_i32x4_add(d, wasm_i32x4_dot_i16x8(q, g));
    }
    if (k < length) {
        const v128_t p = wasm_v128_load64_zero(x + k), q = wasm_v128_load64_zero(y + k);
        const v128_t f = sr_four@WIDTH@(w + k), g = sr_four@WIDTH@(v + k);
        a = wasm_i32x4_add(a, wasm_i32x4_dot_i16x8(p, f));
        b = wasm_i32x4_add(b, wasm_i32x4_dot_i16x8(p, g));
        c = wasm_i32x4_add(c, wasm_i32x4_dot_i16x8(q, f));
        d = wasm_i32x4_add(d, wasm_i32x4_dot_i16x8(q, g));
    }
    a = wasm_i32x4_add(wasm_i32x4_shuffle(a, b, 0, 4, 1, 5), wasm_i32x4_shuffle(a, b, 2, 6, 3, 7));
    c = wasm_i32x4_add(wasm_i32x4_shuffle(c, d, 0, 4, 1, 5), wasm_i32x4_shuffle(c, d, 2, 6, 3, 7));
    a = wasm_i32x4_add(wasm_i32x4_shuffle(a, c, 0, 1, 4, 5), wasm_i32x4_shuffle(a, c, 2, 3, 6, 7));
    wasm_v128_store(sums, wasm_i32x4_add(wasm_v128_load(sums), a));
}
