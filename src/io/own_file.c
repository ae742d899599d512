/* Made by root, given to whose directory it is. */
#include "io/own_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

void own_file_give(const char *dir, int fd)
{
    struct stat st;
    if (geteuid() == 0 && stat(dir, &st) == 0 && st.st_uid != 0)
        (void)!fchown(fd, st.st_uid, st.st_gid);
}

int own_file_open(const char *dir, const char *path, int mode)
{
    const int flags = mode | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
    int fd = open(path, flags | O_EXCL, 0600);
    if (fd < 0)
        return open(path, flags, 0600);
    own_file_give(dir, fd);
    return fd;
}
