/* A table; asks nothing. */
#include "io/oserr.h"

#include <errno.h>

int oserr(int err)
{
    switch (err) {
    case EAGAIN:
    case EINPROGRESS:
    case EINTR:
        return POSTERN_ERR_AGAIN;
    case ENOENT: /* of a socket that is a file */
    case ENOTDIR:
        return POSTERN_ERR_NOTFOUND;
    case ECONNREFUSED:
        return POSTERN_ERR_REFUSED;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
        return POSTERN_ERR_UNREACHABLE;
    case ETIMEDOUT:
        return POSTERN_ERR_TIMEOUT;
    case ECONNRESET:
    case EPIPE:
        return POSTERN_ERR_RESET;
    case EADDRINUSE:
        return POSTERN_ERR_INUSE;
    case EACCES:
    case EPERM:
        return POSTERN_ERR_PERM;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        return POSTERN_ERR_LIMIT;
    default:
        return POSTERN_ERR_IO;
    }
}
