/* See hosts_file.h. */
#include "io/hosts_file.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/lack.h"
#include "io/procstat.h"
#include "io/textfile.h"

enum { ANCESTORS_MAX = 64 };

int hosts_file_set(const char *path, const char *owner, const struct hosts_name *names,
                   size_t n, struct fault *f)
{
    struct textfile *t = malloc(sizeof(*t));
    char *text = NULL;
    size_t len = 0;
    if (t == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    int rc = textfile_read(t, path, true, f);
    if (rc == 0 && hosts_text_set(&text, &len, t->text, t->len, owner, names, n) != 0)
        rc = fault_lack(f, POSTERN_ERR_NOMEM);
    if (rc == 0)
        rc = textfile_write(t, text, len, f);
    free(text);
    textfile_free(t);
    free(t);
    return rc;
}

int hosts_file_owner(const char *path, size_t skip, char *owner, size_t cap,
                     struct fault *f)
{
    struct textfile *t = malloc(sizeof(*t));
    size_t at = 0;
    if (t == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    int rc = textfile_read(t, path, true, f);
    for (size_t i = 0; rc == 0 && i <= skip; i++)
        if (!hosts_text_next(t->text, t->len, &at, owner, cap))
            rc = POSTERN_ERR_NOTFOUND;
    textfile_free(t);
    free(t);
    return rc;
}

static bool is_same(const char *a, const char *b, bool *known)
{
    struct stat one, other;
    *known = stat(a, &one) == 0 && stat(b, &other) == 0;
    return *known && one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

bool hosts_file_is_of_this_network(const char *path)
{
    long pid = procstat_of((long)getpid()).parent;
    for (int i = 0; i < ANCESTORS_MAX && pid > 0; i++, pid = procstat_of(pid).parent) {
        char net[64], file[PATH_MAX + 64];
        bool net_known, file_known;
        (void)snprintf(net, sizeof(net), "/proc/%ld/ns/net", pid);
        (void)snprintf(file, sizeof(file), "/proc/%ld/root%s", pid, path);
        bool same_net = is_same(net, "/proc/self/ns/net", &net_known);
        bool same_file = is_same(file, path, &file_known);
        if (net_known && !same_net && same_file)
            return false;
    }
    return true;
}
