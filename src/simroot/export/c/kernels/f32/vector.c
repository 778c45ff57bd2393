typedef float sr_@NAME@ __attribute__((vector_size(@BYTES@)));
typedef float sr_@NAME@_anywhere __attribute__((vector_size(@BYTES@), aligned(4), may_alias));
typedef int32_t sr_@NAME@_bits __attribute__((vector_size(@BYTES@)));

SR_MAYBE static inline sr_@NAME@ sr_load_@NAME@(const float *from)
{
    return *(const sr_@NAME@_anywhere *)from;
}

/* Fewer, where what is behind them may not be read. */
SR_MAYBE static inline sr_@NAME@ sr_some_@NAME@(const float *from, int count)
{
@SOME@
}

SR_MAYBE static inline void sr_store_@NAME@(sr_@NAME@ value, int count, float *to)
{
    if (count == @BYTES@ / 4) {
        *(sr_@NAME@_anywhere *)to = value;
    } else {
        memcpy(to, &value, (size_t)count * sizeof *to);
    }
}

SR_MAYBE static inline sr_@NAME@ sr_absolute_@NAME@(sr_@NAME@ value)
{
    return (sr_@NAME@)((sr_@NAME@_bits)value & 0x7FFFFFFF);
}

SR_MAYBE static inline sr_@NAME@ sr_clamp_@NAME@(sr_@NAME@ value, float low, float high)
{
@CLAMP@
}
