/* Draws QR codes; knows nothing of what they say. */
#include "io/qr.h"

#include <stdbool.h>
#include <unistd.h>

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
    /*
     * Light modules are drawn: right on a dark terminal, and on any when it is a
     * terminal, whose colours are then set to white on black.
     */
    static const char *const blocks[] = {"\u2588", "\u2580", "\u2584", " "};
    bool colours = isatty(fileno(out)) == 1;
    QRcode *code = QRcode_encodeString(text, 0, QR_ECLEVEL_L, QR_MODE_8, 1);
    if (code == NULL)
        return POSTERN_ERR_INVALID;
    for (int y = -QR_MARGIN; y < code->width + QR_MARGIN; y += 2) {
        (void)fputs(colours ? "\033[40;97m" : "", out);
        for (int x = -QR_MARGIN; x < code->width + QR_MARGIN; x++) {
            bool below = is_dark(code, x, y + 1);
            (void)fputs(blocks[(is_dark(code, x, y) ? 2 : 0) + (below ? 1 : 0)], out);
        }
        (void)fputs(colours ? "\033[0m\n" : "\n", out);
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
