/* Rows from *begin to before *end are kept: those before the first are given up. */
static void sr_forget(void *rows, size_t size, int first, int *begin, int *end)
{
    const int kept = *end > first ? *end - first : 0;
    if (first == *begin) {
        return;
    }
    if (kept > 0) {
        memmove(rows, (const char *)rows + size * (size_t)(first - *begin), size * (size_t)kept);
    }
    *begin = first;
    *end = first + kept;
}
