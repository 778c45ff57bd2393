/* Rows [top, bottom) of the @WHAT@ over windows; positions outside of the grid do not count. */
static void sr_pool_@KIND@(const sr_grid *g, const float *x@PARAMETERS@, int top, int bottom, float *y)
{
@include windows.c
                const float *corner = x + ((start_y + first_y * g->apart_y) * g->width + start_x + first_x * g->apart_x) * g->channels + c;
                float value = @START@;
                for (u = 0; u < last_y - first_y; ++u) {
                    for (v = 0; v < last_x - first_x; ++v) {
                        const float one = corner[(u * g->apart_y * g->width + v * g->apart_x) * g->channels];
                        @STEP@
                    }
                }
                y[c] = @RESULT@;
            }
            @UNUSED@
            y += g->channels;
        }
    }
}
