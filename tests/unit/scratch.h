/* A fresh private directory for a test, removed with all that is in it afterwards. */
#ifndef POSTERN_TESTS_SCRATCH_H
#define POSTERN_TESTS_SCRATCH_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

#define SCRATCH_LEN 64

static inline int scratch_remove_one(const char *path, const struct stat *st, int type,
                                     struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    (void)remove(path);
    return 0;
}

static inline void scratch_remove(const char *dir)
{
    (void)nftw(dir, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static inline int scratch_make_in(const char *where, char dir[SCRATCH_LEN])
{
    (void)snprintf(dir, SCRATCH_LEN, "%s/postern-test-XXXXXX", where);
    return mkdtemp(dir) != NULL ? 0 : -1;
}

/* 0 when it was made. */
static inline int scratch_make(char dir[SCRATCH_LEN])
{
    return scratch_make_in("/tmp", dir);
}

#endif
