/* Names of errors and the assembly of faults; knows nothing of where they arise. */
#include "core/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/utf8.h"

const char *postern_strerror(int err)
{
    switch ((enum postern_err)err) {
    case POSTERN_OK:
        return "ok";
    case POSTERN_ERR_INVALID:
        return "invalid";
    case POSTERN_ERR_AGAIN:
        return "would block";
    case POSTERN_ERR_NOMEM:
        return "out of memory";
    case POSTERN_ERR_IO:
        return "input/output error";
    case POSTERN_ERR_CLOSED:
        return "closed";
    case POSTERN_ERR_TIMEOUT:
        return "timed out";
    case POSTERN_ERR_REFUSED:
        return "connection refused";
    case POSTERN_ERR_UNREACHABLE:
        return "unreachable";
    case POSTERN_ERR_DENIED:
        return "not authorised";
    case POSTERN_ERR_NOTFOUND:
        return "not found";
    case POSTERN_ERR_INUSE:
        return "in use";
    case POSTERN_ERR_PERM:
        return "permission denied";
    case POSTERN_ERR_NEWER:
        return "from a newer version";
    case POSTERN_ERR_CORRUPT:
        return "damaged";
    case POSTERN_ERR_FULL:
        return "disk full";
    case POSTERN_ERR_LIMIT:
        return "limit reached";
    case POSTERN_ERR_PROTO:
        return "protocol violation";
    case POSTERN_ERR_KEY:
        return "wrong key";
    case POSTERN_ERR_EXPIRED:
        return "expired";
    case POSTERN_ERR_USAGE:
        return "wrong usage";
    case POSTERN_ERR_DNS:
        return "name not resolved";
    case POSTERN_ERR_RESET:
        return "connection reset";
    }
    return "unknown error";
}

void words_cut(char *buf, size_t cap, int wanted)
{
    size_t at = cap - 1;
    if (wanted < 0 || (size_t)wanted < cap || cap < sizeof("... "))
        return;
    at -= 3;
    while (at > cap / 2 && buf[at] != ' ')
        at--;
    if (buf[at] != ' ')
        at = cap - 4;
    memcpy(buf + at, "...", sizeof("..."));
}

int fault_set(struct fault *f, int code, const char *advice, const char *fmt, ...)
{
    if (f == NULL)
        return code;
    f->code = code;
    va_list ap;
    va_start(ap, fmt);
    words_cut(f->what, sizeof(f->what), vsnprintf(f->what, sizeof(f->what), fmt, ap));
    va_end(ap);
    words_cut(f->advice, sizeof(f->advice),
              snprintf(f->advice, sizeof(f->advice), "%s", advice ? advice : ""));
    utf8_make_plain(f->what); /* both may carry another device's words */
    utf8_make_plain(f->advice);
    return code;
}
