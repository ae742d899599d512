/*
 * What a person is told when the machine has nothing more to give: whether it is memory
 * or descriptors, which have different cures.
 */
#ifndef POSTERN_IO_LACK_H
#define POSTERN_IO_LACK_H

#include <stdbool.h>
#include <stddef.h>

#include "core/err.h"

/*
 * Fills `f` and returns `code`, to be called where something just failed for want of
 * either: it is descriptors when errno says so, or when this process can open no more.
 */
int fault_lack(struct fault *f, int code);
/* True when this process can open hardly any more files. */
bool lack_of_descriptors(void);
/* Of each thread that a loop starts; the resolver's modules are what needs the most. */
enum { LACK_THREAD_STACK = 1 << 20 };

/* True when the limit of this process's address space leaves no room for the threads
 * that a loop may start. */
bool lack_of_threads(void);
/* How many descriptors this process may have open at once, and how many it has: the
 * lowest free number, or -1 where there is none. */
size_t descriptors_max(void);
long descriptors_taken(void);
/* Allows this process `wanted` of them, or as many as it may allow itself. */
void descriptors_allow(size_t wanted);

/* What any command needs; of the stack twice what was seen to be enough. */
enum { LACK_FILES_MIN = 32, LACK_STACK_MIN_KB = 256 };

/*
 * At the start: allows this program `least` open files, where that is allowed, and
 * looks whether its stack suffices; or fills `f`.
 */
MUST_CHECK int lack_check_start(unsigned least, struct fault *f);

#endif
