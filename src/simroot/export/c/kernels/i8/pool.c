/* Rows [top, bottom) of the @WHAT@ over windows; positions outside of the grid do not count. */
static void @NAME@(const sr_grid *g, const @TYPE@ *x@PARAMETERS@, int top, int bottom, @TYPE@ *y)
{
@include windows.c
                const @TYPE@ *corner = x + ((start_y + first_y * g->apart_y) * g->width + start_x + first_x * g->apart_x) * g->channels + c;
                int32_t value = @START@;
                for (u = 0; u < last_y - first_y; ++u) {
                    for (v = 0; v < last_x - first_x; ++v) {
                        const int32_t one = corner[(u * g->apart_y * g->width + v * g->apart_x) * g->channels];
                        @STEP@
                    }
                }
                y[c] = (@TYPE@)@RESULT@;
            }
            @UNUSED@
            y += g->channels;
        }
    }
}
