/* Draws QR codes; knows nothing of what they say. */
#include "io/qr.h"

#include <stdbool.h>

#ifdef HAVE_QRENCODE
#include <qrencode.h>

enum { QR_MARGIN = 2 }; /* modules; the standard says 4, cameras need fewer */

static bool is_dark(const QRcode *code, int x, int y)
{
    if (x < 0 || y < 0 || x >= code->width || y >= code->width)
        return false;
    return (code->data[y * code->width + x] & 1) != 0;
}

int qr_print(FILE *out, const char *text)
{
    /* light modules are drawn, so that it reads on a dark terminal; most do */
    static const char *const blocks[] = {"\u2588", "\u2580", "\u2584", " "};
    QRcode *code = QRcode_encodeString(text, 0, QR_ECLEVEL_L, QR_MODE_8, 1);
    if (code == NULL)
        return POSTERN_ERR_INVALID;
    for (int y = -QR_MARGIN; y < code->width + QR_MARGIN; y += 2) {
        for (int x = -QR_MARGIN; x < code->width + QR_MARGIN; x++) {
            bool below = is_dark(code, x, y + 1);
            (void)fputs(blocks[(is_dark(code, x, y) ? 2 : 0) + (below ? 1 : 0)], out);
        }
        (void)fputc('\n', out);
    }
    QRcode_free(code);
    return 0;
}
#else
int qr_print(FILE *out, const char *text)
{
    (void)out;
    (void)text;
    return POSTERN_ERR_NOTFOUND;
}
#endif
