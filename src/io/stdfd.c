/* Descriptors 0 to 2 are open from here on. */
#include "io/stdfd.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* What nobody else opens the null device with, so that it can be told from theirs. */
enum { FILLED = O_RDWR | O_APPEND | O_NONBLOCK };

bool stdfd_was_closed(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & (O_ACCMODE | O_APPEND | O_NONBLOCK)) == FILLED;
}

bool stdfd_is_stdin(int fd)
{
    struct stat in, st;
    return fstat(STDIN_FILENO, &in) == 0 && fstat(fd, &st) == 0 &&
           S_ISSOCK(st.st_mode) && in.st_dev == st.st_dev && in.st_ino == st.st_ino;
}

void stdfd_fill(void)
{
    for (int fd = 0; fd <= STDERR_FILENO; fd++) /* open(2) takes the lowest number */
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", FILLED) != fd)
            _exit(EXIT_FAILURE);
}
