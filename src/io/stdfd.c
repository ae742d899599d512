/* Descriptors 0 to 2 are open from here on. */
#include "io/stdfd.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

void stdfd_fill(void)
{
    for (int fd = 0; fd <= STDERR_FILENO; fd++) /* open(2) takes the lowest number */
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
            _exit(EXIT_FAILURE);
}
