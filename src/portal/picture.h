/* What pages draw: live paths, QR codes. */
#ifndef POSTERN_PORTAL_PICTURE_H
#define POSTERN_PORTAL_PICTURE_H

#include "portal/html.h"

#define PICTURE_SESSIONS 24 /* drawn at most; the table has all */

/*
 * Text for people of a round trip, "8.2 ms", and of a rate, "1.2 MB/s" (SI prefixes);
 * "unknown" for what is no sensible number, as a round trip of 0 is.
 */
#define PICTURE_NUMBER_LEN 16
void picture_format_rtt(char out[static PICTURE_NUMBER_LEN], double ms);
void picture_format_rate(char out[static PICTURE_NUMBER_LEN], double bytes_s);

/*
 * Cuts `text` to `budget` thousandths of an em, as a common font sets it, with an
 * ellipsis at the end if something was cut. Never within a character.
 */
#define PICTURE_LABEL_LEN 160
void picture_fit(char out[static PICTURE_LABEL_LEN], const char *text, unsigned budget);

/*
 * Adds `text` as a QR code, an <svg> with its quiet zone, called `title`. False, and
 * nothing added, when it does not fit or the program was built without libqrencode.
 */
bool picture_qr(struct html *h, const char *text, const char *title);

#endif
