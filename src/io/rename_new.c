/* See rename_new.h. */
#include "io/rename_new.h"

#include <linux/fs.h>
#include <sys/syscall.h>
#include <unistd.h>

int rename_new(int from_dir, const char *from, int to_dir, const char *to)
{
    return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, RENAME_NOREPLACE);
}
