/* QR codes as SVG. Knows nothing of what they say. */
#include "portal/picture.h"

#ifdef HAVE_QRENCODE
#include <qrencode.h>

enum { QUIET_ZONE = 4 }; /* modules, ISO/IEC 18004 section 6.3.8 */

/* Runs of dark modules of a row, as one path each. */
static void draw_row(struct html *h, const QRcode *code, unsigned y)
{
    unsigned width = (unsigned)code->width;
    const unsigned char *row = code->data + (size_t)y * width;
    for (unsigned x = 0; x < width; x++) {
        unsigned begin = x;
        while (x < width && (row[x] & 1) != 0)
            x++;
        if (x > begin)
            html_add(h, "M%u %uh%uv1H%uz", begin + QUIET_ZONE, y + QUIET_ZONE,
                     x - begin, begin + QUIET_ZONE);
    }
}

bool picture_qr(struct html *h, const char *text, const char *title)
{
    QRcode *code = QRcode_encodeString(text, 0, QR_ECLEVEL_L, QR_MODE_8, 1);
    if (code == NULL)
        return false;
    unsigned side = (unsigned)code->width + 2 * QUIET_ZONE;
    /* Black on white whatever the colours of the page: cameras want it so. */
    html_add(h,
             "<svg class=\"qr\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %u "
             "%u\" role=\"img\" aria-labelledby=\"qr-title\" "
             "shape-rendering=\"crispEdges\"><title id=\"qr-title\">%s</title>"
             "<path fill=\"#fff\" d=\"M0 0h%uv%uH0z\"/><path fill=\"#000\" d=\"",
             side, side, title, side, side);
    for (unsigned y = 0; y < (unsigned)code->width; y++)
        draw_row(h, code, y);
    html_add(h, "\"/></svg>\n");
    QRcode_free(code);
    return true;
}
#else
bool picture_qr(struct html *h, const char *text, const char *title)
{
    (void)h;
    (void)text;
    (void)title;
    return false;
}
#endif
