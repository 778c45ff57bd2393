static int32_t sr_differences(int32_t d)
{
    return d < 0 ? -d : d;
}
