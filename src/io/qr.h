/* QR codes drawn with half blocks, two modules high a line, for a terminal. */
#ifndef POSTERN_IO_QR_H
#define POSTERN_IO_QR_H

#include <stdio.h>

#include "core/err.h"

/* POSTERN_ERR_NOTFOUND when the program was built without libqrencode. */
MUST_CHECK int qr_print(FILE *out, const char *text);

#endif
