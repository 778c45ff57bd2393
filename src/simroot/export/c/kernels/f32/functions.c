/* Which taps of a filter of n lie inside of a grid of the given size: from *first to before *last. */
static void sr_inside(int start, int apart, int n, int size, int *first, int *last)
{
    int low = start < 0 ? (-start + apart - 1) / apart : 0;
    int high = start >= size ? 0 : (size - 1 - start) / apart + 1;
    *first = low < n ? low : n;
    *last = high < n ? (high > *first ? high : *first) : n;
}

static int sr_least(int a, int b)
{
    return a < b ? a : b;
}

SR_MAYBE static float sr_clamp(float value, float low, float high)
{
    return value < low ? low : value > high ? high : value;
}

static float sr_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t sr_to_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* exp(x): a polynomial, within 2 units in the last place. NaN stays NaN. */
static float sr_exp(float x)
{
    const float above = x > -87.0F ? x : -87.0F, within = above > 88.0F ? 88.0F : above;
    const float twos = within * 1.44269504F, n = (float)(int32_t)(twos + (twos < 0.0F ? -0.5F : 0.5F));
    float r = within - n * 0.693359375F, p = 1.9875691500e-4F;
    r = r + n * 2.12194440e-4F;
    p = p * r + 1.3981999507e-3F;
    p = p * r + 8.3334519073e-3F;
    p = p * r + 4.1665795894e-2F;
    p = p * r + 1.6666665459e-1F;
    p = p * r + 5.0000001201e-1F;
    p = p * r * r + r + 1.0F;
    p = p * sr_from_bits((uint32_t)((int32_t)n + 127) << 23);
    return x > -87.0F ? p : x <= -87.0F ? 0.0F : x;
}

/* exp(x) - 1, accurate near 0. */
static float sr_exp_minus_one(float x)
{
    if (x > -0.4F && x < 0.4F) {
        float p = 2.4801587e-5F;
        p = p * x + 1.9841270e-4F;
        p = p * x + 1.3888889e-3F;
        p = p * x + 8.3333333e-3F;
        p = p * x + 4.1666667e-2F;
        p = p * x + 1.6666667e-1F;
        p = p * x + 0.5F;
        return x + x * x * p;
    }
    return sr_exp(x) - 1.0F;
}

/* log((1 + s) / (1 - s)) for |s| < 0.18. */
static float sr_log_ratio(float s)
{
    float z = s * s, p = 0.24279078841F;
    p = p * z + 0.28498786688F;
    p = p * z + 0.40000972152F;
    p = p * z + 0.66666662693F;
    return 2.0F * s + s * z * p;
}

/* log(x) for a positive normal number. */
static float sr_log(float x)
{
    uint32_t bits = sr_to_bits(x);
    int32_t exponent = (int32_t)(bits >> 23) - 127;
    float m = sr_from_bits((bits & 0x007FFFFFU) | 0x3F800000U), n;
    const int large = m > 1.41421356F;
    m = m * (large ? 0.5F : 1.0F);
    n = (float)(exponent + large);
    return sr_log_ratio((m - 1.0F) / (m + 1.0F)) - n * 2.12194440e-4F + n * 0.693359375F;
}

/* log(1 + x), accurate near 0, for x > -1. */
static float sr_log_one_plus(float x)
{
    if (x > -0.29F && x < 0.41F) {
        return sr_log_ratio(x / (2.0F + x));
    }
    return sr_log(1.0F + x);
}
