    int row, column, c, u, v;
    for (row = top; row < bottom; ++row) {
        const int start_y = row * g->step_y - g->pad_y;
        int first_y, last_y;
        sr_inside(start_y, g->apart_y, g->kernel_y, g->height, &first_y, &last_y);
        for (column = 0; column < g->out_width; ++column) {
            const int start_x = column * g->step_x - g->pad_x;
            int first_x, last_x, count;
            sr_inside(start_x, g->apart_x, g->kernel_x, g->width, &first_x, &last_x);
            count = (last_y - first_y) * (last_x - first_x);
            for (c = 0; c < g->channels; ++c) {
