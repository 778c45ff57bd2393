int @NAME@_prepare_@KIND@(const uint8_t *frame, int width, int height, size_t stride, unsigned flips, void *work,
    size_t work_bytes, uint8_t *pixels)
{
    sr_frame found;
    found.data = frame;
    found.width = width;
    found.height = height;
    found.stride = stride;
    found.flips = flips;
    found.read = sr_read_@KIND@;
    return sr_prepare(&found, work, work_bytes, pixels);
}
